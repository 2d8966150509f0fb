set -u -o pipefail
cd -- "$directory" || exit 2

running() { # false once somebody cancelled the job, or Slurm itself has put it back into the queue
  [[ $(scontrol show job "$SLURM_JOB_ID" 2>/dev/null) == *JobState=RUNNING* ]]
}

await() { # waits for a child to its end, whatever signals come meanwhile; its exit code is left in `code`
  again=yes
  while [[ $again ]]; do
    again=
    wait "$1"
    code=$?
  done
}

finish() { # ends the job as the driver ended: 0 complete, 1 some trials failed, 2 bad input, 3 the store
  if [[ $code == 143 ]] && running; then # drained by TERM, with work left
    echo "drained with work left: back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "could not be put back: submit this script again" >&2
  fi
  exit "$code"
}
