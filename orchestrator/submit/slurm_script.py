"""A job as a Slurm script, for people and for sbatch: texts alone, nothing is asked of Slurm here.

Two shapes: one allocation in which Ray runs the grid, or an array with a trial an element and no Ray at all. Both
checkpoint and go back into the queue before their time is over; both begin where storage says. After an array a small
job brings MLflow up to date.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.table import Cell
from orchestrator.submit.request import Job, Nodes, SubmitError, option_words
from orchestrator.submit.slurm_options import SlurmOptions, asks_for_gpus, of_whoever_pays, seconds_of

_TRACKING_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Script:
    """What Slurm gets: a script and, where wanted, that of a small second job that waits for the first."""

    text: str
    tracking: str | None = None

    def told(self) -> str:
        """All of it for a person: the second script as comments, so that sbatch would take the file too."""
        if self.tracking is None:
            return self.text
        lines = "".join(f"# {line}".rstrip() + "\n" for line in self.tracking.splitlines())
        return f"{self.text}\n# Then, with the id that sbatch prints: sbatch --dependency=afterany:ID\n{lines}"


# Lines of the user come before `set -u`, which much of what sites let one source does not stand.
_HEAD = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --output={log}
#SBATCH --open-mode=append
{lines}
# mixgrid: {what}
# shellcheck disable=SC2317 # traps and srun call what nothing else here does
{setup}
set -uo pipefail
python={python}
code=$(mktemp -d) || exit 2
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e {snapshot} "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONUNBUFFERED=1
"""

_TAIL = """\
worker=$!

# Slurm's warning is handed on. The job goes back into the queue once its checkpoint is safe, and however long that
# takes before its time is over.
back_into_the_queue() {{
    scontrol requeue "$SLURM_JOB_ID" || echo "Slurm does not take the job back: to go on, submit again"
}}
last_call=
time_is_over() {{
    [[ -z $last_call ]] || return
    stop
    {{ sleep {patience}; echo "no checkpoint within {patience} s"; back_into_the_queue; }} &
    last_call=$!
}}
trap time_is_over USR1
trap stop TERM INT
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
status={status}
trap '' TERM INT USR1
if [[ -n $last_call ]]; then
    kill "$last_call"
    if [[ $status -ne 0 ]]; then
        echo "time is nearly over: back into the queue, to go on from the checkpoint"
        back_into_the_queue
    fi
fi
exit "$status"
"""

_ALLOCATION = """\
# One Ray over all nodes, for this job alone: with ports and a token of its own, and on each node a folder that goes
# with it. Its sockets need a short path.
PATH=$(dirname "$(command -v "$python")"):$PATH
address=127.0.0.1
if [[ $SLURM_JOB_NUM_NODES -gt 1 ]]; then
    second=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 2p)
    address=$("$python" -m orchestrator.submit.facing "$(sinfo --noheader --nodes="$second" --format=%o)") || exit 2
fi
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))') || exit 2
unset RAY_ADDRESS
export python code address port RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 RAY_worker_maximum_startup_concurrency=8

ray_here() {{
    RAY_TMPDIR=$(mktemp -d "${{TMPDIR:-/tmp}}/mgXXXXXX") || exit 2
    if [[ ${{#RAY_TMPDIR}} -gt 36 ]]; then
        rmdir "$RAY_TMPDIR"
        RAY_TMPDIR=$(mktemp -d /tmp/mgXXXXXX) || exit 2
    fi
    export RAY_TMPDIR
    # Where a step is ended before Ray has gone, nothing of it stays behind for the next job on the node.
    trap 'pkill -KILL -f "$RAY_TMPDIR/"; rm -rf "$RAY_TMPDIR"' EXIT
    on_head=()
    if [[ $SLURM_NODEID -eq 0 ]]; then on_head=(--include-dashboard=false); fi
    ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" "${{on_head[@]}}" \\
        --temp-dir="$RAY_TMPDIR/ray" \\
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${{SLURM_GPUS_ON_NODE:-0}}" \\
        --ray-client-server-port=$((port + 1)) --dashboard-agent-listen-port=$((port + 2)) \\
        -- bash -c grid_here > >(sed --unbuffered '/[[:space:]]VINFO[[:space:]]/d') 2>&1
    status=$?
    if [[ $SLURM_NODEID -eq 0 ]]; then
        if [[ ! -e $code/run.pid ]]; then status=1; fi # Ray did not start, which it takes for success
        echo "$status" >"$code/status"
        # The other nodes would notice only after a minute that their head is gone.
        if [[ $SLURM_JOB_NUM_NODES -gt 1 ]]; then scancel --signal=TERM "$SLURM_JOB_ID.$SLURM_STEP_ID"; fi
    fi
}}

# On the head, which is this node: `run` leaves its process id, by which it is told to stop.
grid_here() {{
    cd "$code" || exit 2
    echo "$BASHPID" >run.pid
    if [[ -e stop ]]; then exit 130; fi
    exec "$python" -m orchestrator.cli {words} --address "$address:$port"
}}

stop() {{
    touch "$code/stop"
    if [[ -s $code/run.pid ]]; then kill -TERM "$(cat "$code/run.pid")"; fi
}}

export -f ray_here grid_here
srun --export=ALL --chdir=/ --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=0 \\
    bash -c ray_here &
"""

_STATUS_OF_HEAD = '$(cat "$code/status" || echo 1)'

_ARRAY = """\
trials=(
{trials}
)
trial=${{trials[$SLURM_ARRAY_TASK_ID]}}
echo "trial $trial"

stop() {{
    {stop}
}}

{launch} train "specs/$trial.json" \\
    {words} &
"""

_TRACKING = '"$python" -m orchestrator.cli {words}\n'


def render_allocation(job: Job, nodes: Nodes, options: SlurmOptions, folder: str) -> Script:
    """One allocation of whole nodes: Ray on all of them, `mixgrid run` on the first."""
    cpus, gpus = nodes.settled(job.submission)
    asked = [f"--nodes={nodes.count}", "--ntasks-per-node=1", f"--cpus-per-task={cpus}", "--exclusive"]
    asked += _share(nodes, gpus, options)
    if nodes.memory is None:
        asked.append("--mem=0")  # a whole node comes with all its CPUs, but with its memory only where it is asked for
    head = _head(job, nodes, options, folder, asked)
    words = job.run_words("HERE")
    at = words.index("--address")  # the script knows the address
    body = _ALLOCATION.format(words=shlex.join([*words[:at], *words[at + 2 :]]))
    return Script(f"{head}\n{body}{_tail(options, _STATUS_OF_HEAD)}")


def render_array(job: Job, cells: Sequence[Cell], nodes: Nodes, options: SlurmOptions, folder: str) -> Script:
    """A job array with one trial an element, each on one node, under torchrun where it has several workers.

    Raises: SubmitError where there is no cell, or where nodes are asked for.
    """
    if not cells or nodes.count != 1:
        raise SubmitError("--shape array wants cells to train, and --nodes 1: an element is one trial on one node")
    wanted = job.submission
    cpus, gpus = nodes.settled(wanted)
    limit = "" if options.at_once is None else f"%{options.at_once}"
    asked = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={cpus}", *_share(nodes, gpus, options)]
    asked += [f"--array=0-{len(cells) - 1}{limit}"]
    head = _head(job, nodes, options, folder, asked)
    words = [*option_words(wanted.options), "--threads", str(wanted.placement.cpus_per_worker)]
    trials = "\n".join(f"    {cell.trial_id} # {cell.name}" for cell in cells)
    launch, stop = _launcher(wanted.placement.workers)
    body = _ARRAY.format(trials=trials, words=shlex.join(words), launch=launch, stop=stop)
    tracking = _tracking(job, nodes, options, folder) if wanted.tracking_uri else None
    return Script(f"{head}\n{body}{_tail(options, '$?')}", tracking)


def tracking_name(name: str) -> str:
    """What the small job that brings MLflow up to date after a job is called."""
    return f"{name}-track"


def _launcher(workers: int) -> tuple[str, str]:
    """How a trial is started and told to stop: torchrun dies of USR1, so its ranks get it."""
    if workers == 1:
        return '"$python" -m orchestrator.cli', 'kill -USR1 "$worker"'
    launch = f'"$python" -m torch.distributed.run --standalone --nproc-per-node={workers} -m orchestrator.cli'
    return launch, 'pkill -USR1 -P "$worker" || kill "$worker"'


@dataclass(frozen=True, slots=True)
class _Opening:
    """What the first lines of a script say: the job's name, the end of its log's, what it does, options of sbatch."""

    name: str
    log: str
    kind: str
    lines: Sequence[str]


def _head(job: Job, nodes: Nodes, options: SlurmOptions, folder: str, asked: Sequence[str]) -> str:
    is_array = options.shape == "array"
    kind = "a trial an element, without Ray" if is_array else "the grid on Ray in one allocation"
    lines = ["--requeue", f"--signal=B:USR1@{options.grace_seconds}", f"--time={options.time}"]
    opening = _Opening(job.name, "%A_%a" if is_array else "%j", kind, [*lines, *asked, *options.lines])
    return _opened(job, nodes, options, folder, opening)


def _opened(job: Job, nodes: Nodes, options: SlurmOptions, folder: str, opening: _Opening) -> str:
    """The part of a script that unpacks the code and goes there."""
    if not re.fullmatch(r"[\w./+@-]+", folder):
        raise SubmitError(
            f"Slurm cannot name a log in {folder}: use a --storage whose path has no blanks or other signs"
        )
    return _HEAD.format(
        name=opening.name,
        log=f"{folder}/{opening.name}-{opening.log}.txt",
        lines="\n".join(f"#SBATCH {line}" for line in opening.lines),
        what=f"{opening.kind}; table {job.submission.table.name}, snapshot {job.digest[:12]}",
        setup="".join(f"{line}\n" for line in options.setup),
        python=shlex.quote(nodes.python or sys.executable),
        snapshot=shlex.quote(f"{folder}/{job.name}.zip"),
    )


def _tail(options: SlurmOptions, status: str) -> str:
    return _TAIL.format(patience=max(1, options.grace_seconds * 4 // 5), status=status)


def _share(nodes: Nodes, gpus: int, options: SlurmOptions) -> list[str]:
    words = [f"--gpus-per-node={gpus}"] if gpus and not asks_for_gpus(options) else []
    return [*words, f"--mem={nodes.memory}"] if nodes.memory else words


def _tracking(job: Job, nodes: Nodes, options: SlurmOptions, folder: str) -> str:
    """A script that brings MLflow up to date after an array, whose trials tell it nothing."""
    wanted = job.submission
    limit = seconds_of(options.time)
    is_short = limit is not None and limit < _TRACKING_SECONDS  # what the partition takes
    time = options.time if is_short else f"00:{_TRACKING_SECONDS // 60}:00"
    lines = ["--ntasks=1", f"--time={time}", *of_whoever_pays(options)]
    opening = _Opening(tracking_name(job.name), "%j", "MLflow is brought up to date", lines)
    words = ["track", *job.words, "--storage", wanted.options.storage, "--tracking-uri", str(wanted.tracking_uri)]
    return f"{_opened(job, nodes, options, folder, opening)}\n{_TRACKING.format(words=shlex.join(words))}"
