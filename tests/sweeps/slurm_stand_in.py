"""Stand-ins for the commands of Slurm that a batch script calls: `srun`, `scancel`, `scontrol`, in a few lines of bash.

They do what the real ones do as far as a script can tell: `srun` runs tasks in sessions of their own and, like the real
one, kills them outright when it is told TERM; `scancel --signal` reaches the tasks; `scontrol` says how the job stands,
which the test decides, and notes what is put back into the queue.
"""

from __future__ import annotations

import os
from pathlib import Path

SRUN = """
tasks=1 pids=() code=0
while [[ $1 == -* ]]; do
  [[ $1 == --ntasks=* ]] && tasks=${1#*=}
  shift
done
trap 'kill -KILL "${pids[@]}"' TERM
for ((node = 0; node < tasks; node++)); do
  SLURM_NODEID=$node setsid "$@" &
  pids+=($!)
  echo $! >>"$STAND_IN/tasks"
done
for pid in "${pids[@]}"; do
  wait "$pid" || code=$?
done
exit "$code"
"""
SCANCEL = """
[[ $* == "--signal=TERM $SLURM_JOB_ID" ]] || exit 1
while read -r pid; do kill -TERM -- "-$pid"; done <"$STAND_IN/tasks"
"""
SCONTROL = """
case "$1 $2" in
  "show job") echo "JobId=$3 JobName=x"; echo "   JobState=$(<"$STAND_IN/state") Reason=None" ;;
  "requeue $SLURM_JOB_ID") echo "$2" >>"$STAND_IN/requeued" ;;
  *) exit 1 ;;
esac
"""


class Slurm:
    """A folder with the stand-ins and what they keep."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        for name, body in (("srun", SRUN), ("scancel", SCANCEL), ("scontrol", SCONTROL)):
            (folder / name).write_text(f"#!/usr/bin/env bash\n{body}")
            (folder / name).chmod(0o755)
        self.state = "RUNNING"

    @property
    def state(self) -> str:
        """How the job stands."""
        return (self._folder / "state").read_text()

    @state.setter
    def state(self, state: str) -> None:
        (self._folder / "state").write_text(state)

    @property
    def requeued(self) -> int:
        """How often the job was put back into the queue."""
        path = self._folder / "requeued"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def environment(self) -> dict[str, str]:
        """The environment of a job's script: this repository's packages, and the stand-ins before everything."""
        (self._folder / "tasks").unlink(missing_ok=True)
        root = str(Path(__file__).parents[2])
        path = f"{self._folder}:{os.environ['PATH']}"
        return os.environ | {"PATH": path, "PYTHONPATH": root, "SLURM_JOB_ID": "4711", "STAND_IN": str(self._folder)}
