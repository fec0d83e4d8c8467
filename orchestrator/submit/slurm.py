"""A job as a Slurm script, and the few questions that are asked of Slurm's own commands.

Two shapes: one allocation in which Ray runs the grid, or an array with a trial an element and no Ray at all. Both
checkpoint and go back into the queue before their time is over; both begin where storage says.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.table import Cell
from orchestrator.submit.ledger import JobState, SubmissionRecord
from orchestrator.submit.request import Job, Nodes, SubmitError, option_words

_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """What is asked of Slurm. `lines` are options of sbatch taken as they are; `setup` runs before anything else."""

    shape: Literal["allocation", "array"] = "array"
    time: str = "24:00:00"
    grace_seconds: int = 300
    at_once: int | None = None
    lines: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """What Slurm gets: a script and, where wanted, the command of a small second job that waits for the first."""

    text: str
    tracking: str | None = None

    def told(self) -> str:
        """All of it as one file for a person, which sbatch would take too."""
        if self.tracking is None:
            return self.text
        words = shlex.join(track_words("JOB", self.tracking))
        return f"{self.text}\n# Then, with the id that sbatch prints for JOB:\n# {words}\n"


_HEAD = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{grace}
#SBATCH --time={time}
{lines}
# mixgrid: {what}
set -uo pipefail
{setup}
python={python}
code=$(mktemp -d)
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e {snapshot} "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONUNBUFFERED=1
"""

# The shell gets Slurm's warning and hands it on; the job goes back into the queue once its checkpoint is safe.
_TAIL = """\
worker=$!

is_time_over=no
trap 'is_time_over=yes; {forward}' USR1
trap '{forward}' TERM INT
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
status=$?
if [[ $is_time_over == yes && $status -ne 0 ]]; then
    echo "time is nearly over: back into the queue, to go on from the checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""

_ALLOCATION = """\
PATH=$(dirname "$(command -v "$python")"):$PATH
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
head="$(hostname):$((20000 + SLURM_JOB_ID % 10000))"

# On the head, which is this node, `run` leaves its process id: it is told to stop by a signal.
# shellcheck disable=SC2016 # the inner shell expands it
srun ray symmetric-run --address "$head" --min-nodes "$SLURM_JOB_NUM_NODES" \\
    --num-cpus={cpus} --num-gpus={gpus} --include-dashboard=false -- \\
    bash -c 'echo "$$" >"$0"; exec "$@"' "$code/run.pid" \\
    "$python" -m orchestrator.cli {words} --address "$head" &
"""

_STOP_RUN = 'kill -TERM "$(cat "$code/run.pid")"'

_ARRAY = """\
trials=(
{trials}
)
trial=${{trials[$SLURM_ARRAY_TASK_ID]}}
echo "trial $trial"

{launch} train "specs/$trial.json" \\
    {words} &
"""


def render_allocation(job: Job, nodes: Nodes, options: SlurmOptions, folder: str) -> Script:
    """One allocation of whole nodes: Ray on all of them, `mixgrid run` on the first."""
    cpus, gpus = nodes.settled(job.submission)
    asked = [f"--nodes={nodes.count}", "--ntasks-per-node=1", f"--cpus-per-task={cpus}", "--exclusive"]
    head = _head(job, nodes, options, folder, [*asked, *_share(nodes, gpus)])
    words = job.run_words("HERE")
    at = words.index("--address")  # the script knows the address
    body = _ALLOCATION.format(cpus=cpus, gpus=gpus, words=shlex.join([*words[:at], *words[at + 2 :]]))
    return Script(f"{head}\n{body}{_TAIL.format(forward=_STOP_RUN)}")


def render_array(job: Job, cells: Sequence[Cell], nodes: Nodes, options: SlurmOptions, folder: str) -> Script:
    """A job array with one trial an element, each on one node, under torchrun where it has several workers.

    Raises: SubmitError where there is no cell, or where nodes are asked for.
    """
    if not cells or nodes.count != 1:
        raise SubmitError("--shape array wants cells to train, and --nodes 1: an element is one trial on one node")
    wanted = job.submission
    cpus, gpus = nodes.settled(wanted)
    limit = "" if options.at_once is None else f"%{options.at_once}"
    asked = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={cpus}", *_share(nodes, gpus)]
    asked += [f"--array=0-{len(cells) - 1}{limit}"]
    head = _head(job, nodes, options, folder, asked)
    words = [*option_words(wanted.options), "--threads", str(wanted.placement.cpus_per_worker)]
    trials = "\n".join(f"    {cell.trial_id} # {cell.name}" for cell in cells)
    launch, forward = _launcher(wanted.placement.workers)
    body = _ARRAY.format(trials=trials, words=shlex.join(words), launch=launch)
    return Script(
        f"{head}\n{body}{_TAIL.format(forward=forward)}", _tracking(job, nodes) if wanted.tracking_uri else None
    )


def _launcher(workers: int) -> tuple[str, str]:
    """How a trial is started and told to stop: torchrun dies of USR1, so its ranks get it."""
    if workers == 1:
        return '"$python" -m orchestrator.cli', 'kill -USR1 "$worker"'
    launch = f'"$python" -m torch.distributed.run --standalone --nproc-per-node={workers} -m orchestrator.cli'
    return launch, 'pkill -USR1 -P "$worker"'


def _head(job: Job, nodes: Nodes, options: SlurmOptions, folder: str, asked: Sequence[str]) -> str:
    if not re.fullmatch(r"[\w./+@-]+", folder):
        raise SubmitError(
            f"Slurm cannot name a log in {folder}: use a --storage whose path has no blanks or other signs"
        )
    is_array = options.shape == "array"
    what = "a trial an element, without Ray" if is_array else "the grid on Ray in one allocation"
    return _HEAD.format(
        name=job.name,
        log=f"{folder}/{job.name}-{'%A_%a' if is_array else '%j'}.txt",
        grace=options.grace_seconds,
        time=options.time,
        lines="\n".join(f"#SBATCH {line}" for line in (*asked, *options.lines)),
        what=f"{what}; table {job.submission.table.name}, snapshot {job.digest[:12]}",
        setup="".join(f"{line}\n" for line in options.setup),
        python=shlex.quote(nodes.python or sys.executable),
        snapshot=shlex.quote(f"{folder}/{job.name}.zip"),
    )


def _share(nodes: Nodes, gpus: int) -> list[str]:
    words = [f"--gpus-per-node={gpus}"] if gpus else []
    return [*words, f"--mem={nodes.memory}"] if nodes.memory else words


def _tracking(job: Job, nodes: Nodes) -> str:
    """The command that brings MLflow up to date after an array, whose trials tell it nothing."""
    wanted = job.submission
    words = ["-m", "orchestrator.cli", "track", *wanted.words, "--storage", wanted.options.storage]
    return shlex.join([nodes.python or sys.executable, *words, "--tracking-uri", str(wanted.tracking_uri)])


def track_words(job_id: str, command: str) -> list[str]:
    """The words that hand Slurm the command, to run once every element has ended."""
    return ["sbatch", "--parsable", f"--dependency=afterany:{job_id}", "--job-name=mixgrid-track", f"--wrap={command}"]


def send(script: Script) -> str:
    """Hand a script to sbatch; returns the job's id. Raises: SubmitError with what sbatch answered."""
    job_id = _told(["sbatch", "--parsable"], script.text).strip().partition(";")[0]
    if script.tracking is not None:
        _told(track_words(job_id, script.tracking))
    return job_id


def _told(words: Sequence[str], text: str | None = None) -> str:
    try:
        told = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise SubmitError(
            f"there is no {words[0]} on this machine: submit where Slurm is, or print the script with --dry-run"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SubmitError(f"{words[0]} gave no answer within a minute: is Slurm's controller up?") from error
    if told.returncode != 0:
        raise SubmitError(f"{words[0]} refused: {told.stderr.strip() or told.stdout.strip()}")
    return told.stdout


class Slurm:
    """Asks Slurm about jobs by their name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self, record: SubmissionRecord) -> JobState:
        """Queued while no element has begun, ended once Slurm's queue has none."""
        try:
            told = _told(["squeue", "--noheader", "--array", f"--name={record.name}", "--format=%T"])
        except SubmitError as error:
            return JobState("unknown", str(error))
        states = told.split()
        if not states:
            return JobState("ended")
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return JobState("queued" if set(states) <= _QUEUED else "running", counts)

    def stop(self, record: SubmissionRecord, *, only_queued: bool) -> None:
        """Cancel the job, or those of its elements that wait."""
        _told(["scancel", f"--name={record.name}", *(["--state=PENDING"] if only_queued else [])])

    def logs(self, record: SubmissionRecord) -> Mapping[str, str]:
        """The files that the job writes."""
        files = sorted(self._folder.glob(f"{record.name}-*.txt"))
        return {file.name: file.read_text(errors="replace") for file in files}
