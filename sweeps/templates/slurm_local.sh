
# TERM is Slurm's warning before the time limit, or before it preempts the job. It is passed on by scancel, since srun
# would answer it by killing what it runs: the driver drains, its workers commit, and it exits with 143.
# shellcheck disable=SC2317,SC2329 # called by the trap
warned() {
  again=yes
  if running; then scancel --signal=TERM "$SLURM_JOB_ID"; fi
}
trap warned TERM

srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --kill-on-bad-exit=0 \
  "${loopsweep[@]}" run "${options[@]}" -- "$study" &
await $!
finish
