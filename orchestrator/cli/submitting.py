"""The command `submit`, and what `cancel` and `logs` do with jobs that were submitted."""

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal

import typer

from experiments.table import Cell, Table
from orchestrator.cli.common import Chosen, TrackingUri, absolute_table, making, on_table, that_trains
from orchestrator.cli.grid import CpusPerWorker, GpusPerWorker, NodeLabels, WaitForNodes, Workers
from orchestrator.plan import PlannedCell, survey, to_run
from orchestrator.resources import Placement, check_batches, refuse_unsaid_devices
from orchestrator.submit import ledger, snapshot
from orchestrator.submit.errands import Backends, Errand, Load, backend_of, errand_for
from orchestrator.submit.kuberay import KubeOptions
from orchestrator.submit.ledger import BackendName, JobState, SubmissionRecord
from orchestrator.submit.ray_jobs import RayOptions
from orchestrator.submit.request import Job, Nodes, Submission, SubmitError
from orchestrator.submit.slurm_options import SlurmOptions
from orchestrator.submit.snapshot import Snapshot
from trainer.records import trial_path
from trainer.spec import RunOptions
from trainer.storage import Storage

_LOOK_SECONDS = 2.0
# How long a job whose trials have stopped gets to end by itself.
_LAST_SECONDS = 20.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(submit)


def _nodes(
    nodes: Annotated[int, typer.Option(help="slurm, kuberay: machines that train.")] = 1,
    cpus_per_node: Annotated[int | None, typer.Option(help="slurm, kuberay; default: what one trial needs.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(help="slurm, kuberay; default: what one trial needs.")] = None,
    memory_per_node: Annotated[str | None, typer.Option(help="slurm: 64G; kuberay: 64Gi.")] = None,
    python: Annotated[str | None, typer.Option(help="ray, slurm: Python there; default: python, this one.")] = None,
    max_nodes: Annotated[
        int | None, typer.Option(help="kuberay: as many as trials need, from --nodes (0 allowed) to so many.")
    ] = None,
) -> Nodes:
    return Nodes(nodes, cpus_per_node, gpus_per_node, memory_per_node, python, max_nodes)


def _backends(
    address: Annotated[str | None, typer.Option(help="ray: the job server; default: RAY_API_SERVER_ADDRESS.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="ray: a variable of here that the job needs; repeat.")] = None,
    shape: Annotated[
        Literal["array", "allocation"], typer.Option(help="slurm: a trial an element, or Ray in one allocation.")
    ] = "array",
    time_limit: Annotated[
        str, typer.Option("--time", help="slurm: after which the job goes on in another.")
    ] = "24:00:00",
    grace_seconds: Annotated[int, typer.Option(help="slurm: before the limit, to checkpoint and requeue.")] = 300,
    sbatch: Annotated[list[str] | None, typer.Option(help='slurm: an option of sbatch; repeat: "--qos=high".')] = None,
    setup: Annotated[list[str] | None, typer.Option(help="slurm: a line of shell that runs first; repeat.")] = None,
    image: Annotated[str | None, typer.Option(help="kuberay; default: mixgrid:DIGEST of the code.")] = None,
    namespace: Annotated[str | None, typer.Option(help="kuberay: of Kubernetes.")] = None,
    queue: Annotated[str | None, typer.Option(help="kuberay: a LocalQueue of Kueue.")] = None,
    secret: Annotated[str | None, typer.Option(help="kuberay: a secret that becomes environment.")] = None,
    token_secret: Annotated[str | None, typer.Option(help="kuberay: a secret with Ray's token.")] = None,
    claim: Annotated[str | None, typer.Option(help="kuberay: NAME:FOLDER, a shared volume.")] = None,
    idle_seconds: Annotated[int, typer.Option(help="kuberay, with --max-nodes: a node without work goes after.")] = 60,
) -> Backends:
    return Backends(
        RayOptions(address, tuple(env or ())),
        SlurmOptions(shape, time_limit, grace_seconds, None, tuple(sbatch or ()), tuple(setup or ())),
        KubeOptions(image, namespace, queue, secret, token_secret, claim, idle_seconds=idle_seconds),
    )


@on_table
@that_trains
@making("nodes", _nodes)
@making("backends", _backends)
def submit(
    chosen: Chosen,
    options: RunOptions,
    nodes: Nodes,
    backends: Backends,
    to: Annotated[BackendName, typer.Option(help="Where it goes.")],
    tracking_uri: TrackingUri = None,
    workers: Workers = 1,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = None,
    node_labels: NodeLabels = "",
    wait_for_nodes: WaitForNodes = False,
    max_concurrent: Annotated[int | None, typer.Option(help="At most so many trials at once.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed cells again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be sent.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="kuberay: kubectl apply, not only the manifest.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Print what the job prints until it ends.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Though the former job cannot be asked.")] = False,
) -> None:
    """Hand what is missing of a table to a cluster and return with the job's name; twice is once.

    On standard output comes the name, or with --dry-run (and for kuberay without --apply) what would be sent.
    """
    placement = Placement(workers, cpus_per_worker, gpus_per_worker, node_labels)
    table, storage = chosen.table, chosen.storage
    check_batches((cell.spec for cell in table.cells()), workers)
    options = options.changed(storage=storage.url, threads=cpus_per_worker)
    table_word, *choice = chosen.selection.settled(storage).words
    words = (absolute_table(table_word), *choice)
    wanted = Submission(table, words, options, placement, max_concurrent, retry_failed, tracking_uri, wait_for_nodes)
    wanted = _on_coming_nodes(wanted, nodes)
    former = ledger.newest(storage, wanted.id)
    is_live = former is not None and _is_live(former, storage, again=again)
    planned = survey(table, storage)
    cells = to_run(planned, retry_failed=retry_failed)
    only_shown = dry_run or (to == "kuberay" and not apply)
    if former is not None and is_live and not only_shown:
        _say("nothing was sent: it does this work already (end it with `mixgrid cancel`)")
        raise typer.Exit(_ended(former, storage, table) if follow else _named(former))
    _say_cells(planned, cells)
    if not cells:
        return
    _say_others(wanted, storage)
    attempt = 1 if former is None else former.attempt + (not is_live)
    load = Load(*_prepared(wanted, attempt, cells), cells, storage)
    errand = errand_for(to, load, nodes, backends, _say)
    if only_shown:
        print(errand.told, end="")
        return
    chosen.selection.remember(storage)
    record = _send(errand, load)
    raise typer.Exit(_ended(record, storage, table) if follow else _named(record))


def _on_coming_nodes(wanted: Submission, nodes: Nodes) -> Submission:
    """With --max-nodes the run waits for nodes, and has no more trials at once than the most nodes hold.

    Ray's newer autoscaler does nothing about a request that is larger than the cluster may be.
    """
    at_once = nodes.trials_at_once(wanted)
    if at_once is not None:
        at_once = min(at_once, wanted.max_concurrent or at_once)
        wanted = replace(wanted, waits_for_nodes=True, max_concurrent=at_once)
    if wanted.waits_for_nodes:
        refuse_unsaid_devices(wanted.placement, wanted.options.device)
    return wanted


def _is_live(former: SubmissionRecord, storage: Storage, *, again: bool) -> bool:
    """Whether the former job may still do the work; says what is known of it."""
    state = backend_of(former, storage).state(former)
    if state.has_ended:
        return False
    _say(f"{ledger.described(former)}: {_state_text(state)}")
    if state.kind == "unknown" and not again:
        _say("whether it has ended cannot be asked from here; if it surely has, submit with --again")
    return not (again and state.kind == "unknown")


def _state_text(state: JobState) -> str:
    return f"{state.kind} ({state.detail})" if state.detail else state.kind


def _prepared(wanted: Submission, attempt: int, cells: Sequence[Cell]) -> tuple[Job, Snapshot]:
    """The job, and its snapshot: the code, the user's files and the specs of the cells."""
    taken, words = snapshot.take(wanted.words)
    snapshot.refuse_other_trials(taken, words, wanted.trial_ids)
    taken = taken.with_files({f"specs/{c.trial_id}.json": c.spec.model_dump_json(indent=1).encode() for c in cells})
    _say(f"snapshot {taken.digest[:12]}: {taken.origin}")
    return Job(wanted, attempt, words, taken.digest, taken.code_digest[:12]), taken


def _send(errand: Errand, load: Load) -> SubmissionRecord:
    job, storage = load.job, load.storage
    errand.check()
    record = ledger.record_of(job, load.snapshot, errand.backend, errand.address)
    if not ledger.claim(storage, record):
        raise SubmitError(
            f"{job.name} is being submitted from elsewhere at this moment: look again with `mixgrid status`"
        )
    try:
        storage.write(ledger.file_of(job.name, "zip"), load.snapshot.zipped())
        for cell in load.cells:
            storage.remove(trial_path(cell.trial_id, "failure.json"))
        record = record.model_copy(update={"backend_id": errand.send()})
    except BaseException:
        ledger.forget(storage, record)
        raise
    ledger.remember(storage, record)
    _say(f"submitted to {errand.backend}; see `mixgrid status`, `mixgrid logs --job`, `mixgrid cancel`")
    return record


def _named(record: SubmissionRecord) -> int:
    print(record.name)
    return 0


def _say_cells(planned: Sequence[PlannedCell], cells: Sequence[Cell]) -> None:
    """Name the cells that would train, and count the others by their reason."""
    wanted = {cell.trial_id for cell in cells}
    others = [item.state for item in planned if item.cell.trial_id not in wanted]
    left = ", ".join(f"{others.count(state)} {state}" for state in sorted(set(others)))
    _say(f"{len(cells)} of {len(planned)} cells to train" + (f" ({left})" if left else ""))
    for cell in cells:
        _say(f"  {cell.name}  {cell.trial_id}")


def _say_others(wanted: Submission, storage: Storage) -> None:
    """Name other submissions that have some of these cells and have not ended."""
    for record in ledger.submissions_of(storage, wanted.trial_ids):
        if record.submission != wanted.id and not backend_of(record, storage).state(record).has_ended:
            shared = len(set(record.trial_ids) & set(wanted.trial_ids))
            _say(f"note: {shared} of these cells are also in {record.name} ({record.backend}); it is not done twice")


def _ended(record: SubmissionRecord, storage: Storage, table: Table) -> int:
    """Print what a job prints until it ends; returns its exit code, or 1 where it told none and cells are not done."""
    _say(f"following {record.name}; Ctrl-C leaves it at work")
    backend, shown = backend_of(record, storage), dict[str, int]()
    try:
        while True:
            state = backend.state(record)
            with suppress(SubmitError, RuntimeError, OSError):
                for part, text in backend.logs(record).items():
                    sys.stdout.write(text[shown.get(part, 0) :])
                    shown[part] = len(text)
            sys.stdout.flush()
            if state.has_ended:
                break
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        _say(f"{record.name} goes on; `mixgrid cancel` ends it")
        return 130
    _say(f"{record.name} {_state_text(state)}")
    if state.exit_code is not None:
        return state.exit_code
    return 0 if all(item.state == "done" for item in survey(table, storage)) else 1


def print_job_logs(table: Table, storage: Storage) -> None:
    """Print what the last submitted job of a table printed. Raises: SubmitError where none was."""
    records = ledger.submissions_of(storage, [cell.trial_id for cell in table.cells()])
    if not records:
        raise SubmitError(f"no job of table {table.name} was submitted on {storage.name}: see `mixgrid submit`")
    record = records[-1]
    print(f"# {ledger.described(record)}")
    for part, text in backend_of(record, storage).logs(record).items():
        print(f"## {part}\n{text}")


class SubmittedJobs:
    """The jobs of some trials that have not ended."""

    def __init__(self, storage: Storage, trial_ids: Collection[str]) -> None:
        self._storage = storage
        self._jobs = []
        for record in ledger.submissions_of(storage, trial_ids):
            state = backend_of(record, storage).state(record)
            if state.kind == "unknown":
                print(f"{ledger.described(record)}: cannot be asked from here ({state.detail})")
            elif not state.has_ended:
                self._jobs.append(record)

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def stop(self, *, only_queued: bool) -> None:
        """Take out of the queue what has not begun, or end everything at once."""
        for record in self._jobs:
            print(f"{record.name} ({record.backend}): {'out of the queue' if only_queued else 'ended'}")
            backend_of(record, self._storage).stop(record, only_queued=only_queued)

    def have_ended_by(self, deadline: float) -> bool:
        """Wait for the jobs, whose trials have stopped, to end; those that do not soon are ended."""
        soon = time.monotonic() + _LAST_SECONDS
        while live := list(self._live()):
            if time.monotonic() > soon:
                for record in live:
                    backend_of(record, self._storage).stop(record, only_queued=False)
            if time.monotonic() > max(deadline, soon + _LAST_SECONDS):
                return False
            time.sleep(1)
        return True

    def _live(self) -> Iterator[SubmissionRecord]:
        return (r for r in self._jobs if not backend_of(r, self._storage).state(r).has_ended)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
