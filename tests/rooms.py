"""A storage of its own for one trial, and what the trial left in it, to be compared bit for bit."""

from dataclasses import dataclass

from torch import Tensor

from tests.contracts import same_tensors, timeless
from trainer.checkpoint import from_bytes
from trainer.host import Host, NoHost
from trainer.reading import (
    find_commits,
    read_result,
    read_segments,
)
from trainer.records import (
    Commit,
    Record,
    attempt_path,
    checkpoint_name,
    trial_path,
)
from trainer.run import Outcome, run_trial
from trainer.spec import RunOptions, TrialSpec
from trainer.storage import Storage


@dataclass(frozen=True)
class Finished:
    """What a trial left in storage, without times."""

    records: list[Record]
    evaluations: list[Record]
    weights: dict[str, dict[str, Tensor] | None]

    def equals(self, other: "Finished") -> bool:
        """Whether every bit is the same."""
        pairs = [(self.weights[name] or {}, other.weights[name] or {}) for name in ("student", "teacher")]
        same_records = (self.records, self.evaluations) == (other.records, other.evaluations)
        return same_records and all(same_tensors(*pair) for pair in pairs)


@dataclass(frozen=True)
class Room:
    """A storage of its own for one trial."""

    spec: TrialSpec
    options: RunOptions

    @property
    def storage(self) -> Storage:
        return Storage(self.options.storage)

    def run(self, host: Host | None = None) -> Outcome:
        return run_trial(self.spec, self.options, host or NoHost())

    def attempts(self) -> list[str]:
        return self.storage.names(trial_path(self.spec.trial_id, "attempts"))

    def checkpoint_file(self, step: int, name: str) -> str:
        commit = next(commit for commit in find_commits(self.storage, self.spec.trial_id) if commit.step == step)
        return attempt_path(self.spec.trial_id, commit.attempt, checkpoint_name(step), name)

    def damage(self, path: str, damage: str) -> None:
        """Cut a file in half, change a byte in its middle, or take it away."""
        content = bytearray(self.storage.read(path))
        content[len(content) // 2] ^= 1
        if damage == "gone":
            self.storage.remove(path)
        else:
            self.storage.write(path, bytes(content[: len(content) // 2] if damage == "cut" else content))

    def newest(self) -> Commit:
        return find_commits(self.storage, self.spec.trial_id)[0]

    def finished(self) -> Finished:
        trial_id = self.spec.trial_id
        result = read_result(self.storage, trial_id)
        return Finished(
            timeless(list(read_segments(self.storage, trial_id, result.segments))),
            timeless(list(result.evaluations)),
            from_bytes(self.storage.read(trial_path(trial_id, "weights.pt"))),
        )
