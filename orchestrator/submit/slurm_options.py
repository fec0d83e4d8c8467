"""What is asked of Slurm, and which of it makes no sense: said before anything is queued."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.submit.request import SubmitError

# Options of sbatch that a job is found by, or that have a name of ours: short forms, and where to say it instead.
_OURS: Mapping[str, tuple[str, str]] = {
    "array": ("a", "an array has an element per cell: choose cells with --rows, --fractions, --seeds"),
    "clusters": ("M", "export SLURM_CLUSTERS=… instead, which squeue and scancel hear too"),
    "error": ("e", "the log lies beside the job's record: see `mixgrid logs --job`"),
    "export-file": ("", "say --setup 'export NAME=VALUE' instead"),
    "job-name": ("J", "a job is found by the name that says what it does"),
    "open-mode": ("", "a log goes on where the job was before it was requeued"),
    "output": ("o", "the log lies beside the job's record: see `mixgrid logs --job`"),
    "signal": ("", "say --grace-seconds instead"),
    "time": ("t", "say --time TIME without --sbatch"),
    "wrap": ("", "the script is ours"),
}
# Options of sbatch that say who asks and where, which a small second job needs too.
_WHOSE = {"account": "A", "partition": "p", "qos": "q", "reservation": "", "wckey": ""}
_GPUS = re.compile(r"--gpus|-G|--gres[= ]\S*\bgpu\b")


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """What is asked of Slurm. `lines` are options of sbatch taken as they are; `setup` runs before anything else.

    Raises: SubmitError for options that would break the job, or that have a name of ours.
    """

    shape: Literal["array", "allocation"] = "array"
    time: str = "24:00:00"
    grace_seconds: int = 300
    at_once: int | None = None
    lines: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in self.lines:
            _check_line(line)
        for line in self.setup:
            if line.startswith("#SBATCH"):
                raise SubmitError(f"--setup {line!r} is an option of sbatch: say --sbatch {line[7:].strip()!r}")
        limit = seconds_of(self.time)
        if not 0 < self.grace_seconds <= 65535 or (limit is not None and self.grace_seconds >= limit):
            raise SubmitError(
                f"--grace-seconds {self.grace_seconds} with --time {self.time}: trials are warned so long before "
                "their time is over, so give more than 0, less than the time, and at most 65535"
            )


def seconds_of(time: str) -> int | None:
    """A time limit as sbatch reads it; None where there is none, or where sbatch will say that it is none.

    Source: sbatch(1), --time: "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours",
    "days-hours:minutes" and "days-hours:minutes:seconds".
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None or third is not None:
        hours, minutes, seconds = first or 0, second or 0, third or 0
    else:
        hours, minutes, seconds = 0, first or 0, second or 0
    return ((days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def asks_for_gpus(options: SlurmOptions) -> bool:
    """Whether a line of the user says which GPUs, as a type or a number, so that ours must not."""
    return any(_GPUS.match(line) for line in options.lines)


def of_whoever_pays(options: SlurmOptions) -> list[str]:
    """The lines that say who asks and where: account, partition, QOS, reservation."""
    return [line for line in options.lines if _is_one_of(line, _WHOSE)]


def _check_line(line: str) -> None:
    if not re.fullmatch(r"--?[A-Za-z][^\n]*", line):
        raise SubmitError(f"--sbatch {line!r} is no option of sbatch: say it as in --sbatch --qos=high")
    for name, (short, instead) in _OURS.items():
        if _is_one_of(line, {name: short}):
            raise SubmitError(f"--sbatch {line!r} cannot be given: {instead}")


def _is_one_of(line: str, names: Mapping[str, str]) -> bool:
    """Whether a line is one of these options: by its name, or by its letter, after which a value may follow at once."""
    long = re.match(r"--([\w-]+)", line)
    if long is not None:
        return long[1] in names
    return line[1] in {short for short in names.values() if short}
