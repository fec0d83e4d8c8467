"""What is submitted: a part of a table with the options of its run, and the identity of both. Knows no backend."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from experiments.table import Table
from orchestrator.resources import Placement
from trainer.spec import RunOptions

INPUTS = "inputs"
# Where something lies and how often it is told decides nothing that is done.
_SAID_ELSEWHERE = {"threads", "gpus_per_worker", "submission"}
_NO_IDENTITY = {"storage", "data", "cache", "weights", "progress_seconds", *_SAID_ELSEWHERE}
_SLUG_LENGTH = 20  # KubeRay allows a RayJob 47 characters in all


class SubmitError(ValueError):
    """What cannot be submitted as it was asked, and what to change."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A run that is to happen elsewhere.

    `words` choose the table's part on a command line: TABLE first, then `--set`, `--rows`, `--fractions`, `--seeds`.
    Raises: SubmitError for a tracking URI that means another place elsewhere.
    """

    table: Table
    words: tuple[str, ...]
    options: RunOptions
    placement: Placement
    max_concurrent: int | None = None
    retry_failed: bool = False
    tracking_uri: str | None = None
    waits_for_nodes: bool = False

    def __post_init__(self) -> None:
        uri = self.tracking_uri or ""
        if uri and ("://" not in uri or re.match(r"sqlite:///[^/]", uri)):
            raise SubmitError(
                f"--tracking-uri {uri} is a place relative to the folder of the command, and a job runs in another: "
                "give http://…, or sqlite:////FOLDER/mlflow.db with four strokes"
            )

    @property
    def trial_ids(self) -> tuple[str, ...]:
        """The trials of its cells, each once."""
        return tuple(sorted({cell.trial_id for cell in self.table.cells()}))

    @property
    def id(self) -> str:
        """The table's name and the digest of its trials and of how each is trained.

        Only options that differ from their defaults count, so that a new option changes no id. Places and the number
        of trials at once stay out: the same work is the same submission from whatever machine
        and folder.
        """
        placement = asdict(self.placement)
        if not self.placement.node_labels:
            del placement["node_labels"]
        content = {
            "trials": self.trial_ids,
            "options": self.options.model_dump(mode="json", exclude=_NO_IDENTITY, exclude_defaults=True),
            "placement": placement,
            "retry_failed": self.retry_failed,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{_slug(self.table.name)}-{digest[:12]}"


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a submission, as a backend gets it.

    `words` are the submission's, with files replaced by their places in the snapshot; `image_tag` names the code alone,
    `digest` the code and the files that travel with it.
    """

    submission: Submission
    attempt: int
    words: tuple[str, ...]
    digest: str
    image_tag: str

    @property
    def name(self) -> str:
        """How the job is called everywhere: by us, by the cluster, in storage."""
        return f"{self.submission.id}-{self.attempt}"

    def run_words(self, address: str, *, inputs: str = INPUTS) -> list[str]:
        """The words after `mixgrid` that do the work on a Ray cluster, where inputs lie in the folder `inputs`."""
        wanted = self.submission
        words = ["run", *(_moved(word, inputs) for word in self.words), *option_words(wanted.options)]
        words += ["--address", address, *_placement_words(wanted.placement)]
        words += ["--wait-for-nodes"] if wanted.waits_for_nodes else []
        words += ["--max-concurrent", str(wanted.max_concurrent)] if wanted.max_concurrent is not None else []
        words += ["--retry-failed"] if wanted.retry_failed else []
        words += ["--tracking-uri", wanted.tracking_uri] if wanted.tracking_uri else ["--no-mlflow"]
        return [*words, "--submission", self.name]


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines a backend is asked for, and their Python; what is None follows from one trial or the backend.

    With `most` there are between `count` and `most` of them, as many as trials need.
    Raises: SubmitError for numbers that mean nothing.
    """

    count: int = 1
    cpus: int | None = None
    gpus: int | None = None
    memory: str | None = None
    python: str | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is None and self.count < 1:
            raise SubmitError(f"--nodes {self.count}: give 1 or more; 0 is for --max-nodes, where nodes come and go")
        if self.most is not None and not 0 <= self.count <= self.most >= 1:
            raise SubmitError(
                f"--nodes {self.count} --max-nodes {self.most}: give the fewest nodes (0 or more) and the most of them"
            )

    def trials_at_once(self, submission: Submission) -> int | None:
        """How many trials fit on the most nodes there may be; None where their number is fixed.

        Raises: SubmitError where not a single one fits.
        """
        if self.most is None:
            return None
        placement, (cpus, gpus) = submission.placement, self.settled(submission)
        workers = cpus // placement.cpus_per_worker
        if per_worker := self._gpus_per_worker(submission):
            workers = min(workers, int(gpus / per_worker + 1e-9))
        if (trials := workers * self.most // placement.workers) < 1:
            raise SubmitError(
                f"--max-nodes {self.most} with {cpus} CPUs and {gpus} GPUs each have room for {workers * self.most} "
                f"workers, and a trial has {placement.workers}: change --max-nodes, --cpus-per-node, --gpus-per-node"
            )
        return trials

    def settled(self, submission: Submission) -> tuple[int, int]:
        """CPUs and GPUs of a node: as given, else what one trial needs; a GPU for each worker unless on "cpu"."""
        placement = submission.placement
        per_worker = self._gpus_per_worker(submission)
        cpus = placement.workers * placement.cpus_per_worker if self.cpus is None else self.cpus
        gpus = math.ceil(placement.workers * per_worker) if self.gpus is None else self.gpus
        return cpus, gpus

    def _gpus_per_worker(self, submission: Submission) -> float:
        asked = submission.placement.gpus_per_worker
        return asked if asked is not None else 0.0 if submission.options.device == "cpu" else 1.0


def option_words(options: RunOptions) -> list[str]:
    """The words of a command line that give these options; defaults are not said, nor what is said elsewhere."""
    words, defaults = ["--storage", options.storage, "--data", options.data], RunOptions()
    for name in RunOptions.model_fields:
        value = getattr(options, name)
        if name in {"storage", "data", *_SAID_ELSEWHERE} or value == getattr(defaults, name):
            continue
        flag = name.replace("_", "-")
        words += [f"--{flag}"] if value is True else [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]
    return words


def _placement_words(placement: Placement) -> list[str]:
    words = ["--workers", str(placement.workers), "--cpus-per-worker", str(placement.cpus_per_worker)]
    if placement.gpus_per_worker is not None:
        words += ["--gpus-per-worker", f"{placement.gpus_per_worker:g}"]
    return [*words, "--node-labels", placement.node_labels] if placement.node_labels else words


def _moved(word: str, inputs: str) -> str:
    if inputs == INPUTS:
        return word
    return re.sub(rf"(^|=@){INPUTS}/", lambda found: f"{found[1]}{PurePosixPath(inputs)}/", word)


def _slug(name: str) -> str:
    """A table's name as Kubernetes allows it: lower case, digits and hyphens, a letter first."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].rstrip("-")
    return slug if slug[:1].isalpha() else f"t-{slug}"[:_SLUG_LENGTH].rstrip("-")
