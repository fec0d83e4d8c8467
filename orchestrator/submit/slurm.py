"""The few things that are asked of Slurm's own commands: to take a job, where it stands, to end it."""

import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.submit.ledger import JobState, SubmissionRecord
from orchestrator.submit.request import SubmitError
from orchestrator.submit.slurm_script import Script, tracking_name

_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


def send(script: Script, say: Callable[[str], None]) -> str:
    """Hand a script to sbatch; returns the job's id. Raises: SubmitError with what sbatch answered.

    A second job that is refused is only told of: the first is in the queue by then.
    """
    job_id = _told(["sbatch", "--parsable"], script.text).strip().partition(";")[0]
    if script.tracking is not None:
        try:
            _told(["sbatch", "--parsable", f"--dependency=afterany:{job_id}"], script.tracking)
        except SubmitError as error:
            say(f"note: the job that brings MLflow up to date was not taken ({error}); `mixgrid track` does it later")
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
        """Queued while no element has begun, with Slurm's reason; ended once its queue has none."""
        try:
            told = _told(["squeue", "--noheader", "--array", f"--name={_names(record)}", "--format=%T %r"])
        except SubmitError as error:
            return JobState("unknown", str(error))
        elements = [line.partition(" ")[::2] for line in told.splitlines()]
        if not elements:
            return JobState("ended")
        counts = Counter(_described(state, reason) for state, reason in elements)
        is_queued = all(state in _QUEUED for state, _ in elements)
        detail = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        return JobState("queued" if is_queued else "running", detail)

    def stop(self, record: SubmissionRecord, *, only_queued: bool) -> None:
        """Cancel the job, or those of its elements that wait; MLflow is still told of what they leave."""
        words = [f"--name={record.name}", "--state=PENDING"] if only_queued else [f"--name={_names(record)}"]
        _told(["scancel", *words])

    def logs(self, record: SubmissionRecord) -> Mapping[str, str]:
        """The files that the job writes."""
        files = sorted(self._folder.glob(f"{record.name}-*.txt"))
        return {file.name: file.read_text(errors="replace") for file in files}


def _names(record: SubmissionRecord) -> str:
    return f"{record.name},{tracking_name(record.name)}"


def _described(state: str, reason: str) -> str:
    return f"{state} ({reason})" if state in _QUEUED and reason not in ("", "None") else state
