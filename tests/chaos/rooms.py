"""A storage of its own for one trivial trial: attempts at it with faults, what each did, and what has to be true."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from tests.chaos.faults import Died, Fault, FaultyStorage, Operation, hooked_sync, scratch
from tests.chaos.trivial import expected_of, told_by, trivial_spec, trivial_world
from tests.contracts import StopAt
from trainer.checkpoint import from_bytes
from trainer.host import Host, NoHost
from trainer.reading import (
    read_result,
    read_segments,
    trial_state,
)
from trainer.records import (
    Result,
    attempt_path,
    checkpoint_name,
    new_attempt_name,
    trial_path,
)
from trainer.run import run_trial
from trainer.spec import RunOptions, TrialSpec

End = Literal["done", "stopped", "failed", "refused", "died", "raised"]
Keep = Literal["weights", "checkpoints", "nothing"]
Damaged = Literal["state", "exchanged state", "segment"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A trivial trial and how it is run."""

    num_steps: int = 8
    start: int | None = 3
    log: int = 3
    checkpoint: int = 2
    evaluate: int = 3
    keep: Keep = "weights"
    progress_seconds: float = 10.0
    is_local: bool = True

    def spec(self, seed: int = 0) -> TrialSpec:
        """The trial."""
        return trivial_spec(num_steps=self.num_steps, start=self.start, every=self.evaluate, seed=seed)

    def options(self, url: str) -> RunOptions:
        """How it is run."""
        return RunOptions(
            storage=url,
            device="cpu",
            log_every=self.log,
            checkpoint_every=self.checkpoint,
            keep=self.keep,
            progress_seconds=self.progress_seconds,
            hang_seconds=0.0,
        )


@dataclass(slots=True)
class Going:
    """What one attempt did: the newest valid checkpoint when it was built, and the steps it began."""

    newest: int
    steps: list[int] = field(default_factory=list)


class Room:
    """Runs attempts at one trial; threads may run theirs at once."""

    def __init__(self, variant: Variant, url: str) -> None:
        self.variant = variant
        self.spec = variant.spec()
        self.trial_id = self.spec.trial_id
        self.options = variant.options(url)
        self.expected = expected_of(self.spec, variant.log)
        self.goings: list[Going] = []
        self.begun: list[FaultyStorage] = []
        self.sealed: list[int] = []
        self.was_damaged = False
        self._memory_lacks_at: int | None = None
        self._mine = threading.local()

    @property
    def storage(self) -> FaultyStorage:
        """A view of the storage without faults."""
        return FaultyStorage(self.options.storage)

    def run(
        self, fault: Fault | None = None, host: Host | None = None, pause: Callable[[str], None] = lambda _what: None
    ) -> End:
        """Run the trial once with at most one fault."""
        self._mine.storage = storage = FaultyStorage(self.options.storage, fault, pause)
        storage.sealed = self.sealed
        self.begun.append(storage)
        try:
            return run_trial(self.spec, self.options, host or NoHost()).kind
        except Died:
            return "died"
        except OSError:
            return "raised"

    def run_until_memory_lacks(self, step: int) -> End:
        """Run the trial on a device whose memory does not do for `step`, once."""
        self._memory_lacks_at = step
        try:
            return self.run()
        finally:
            self._memory_lacks_at = None

    def stop_at(self, step: int) -> End:
        """Run the trial until it may stop at `step` or after."""
        return self.run(host=StopAt(step))

    def operations(self) -> list[Operation]:
        """What an undisturbed attempt asks of storage."""
        assert self.run() == "done"
        asked: list[Operation] = self._mine.storage.asked
        return asked

    # --- what the product is given --------------------------------------------------------------------------------

    @property
    def late_clock(self) -> bool:
        """Whether the attempts of this thread have names of long ago."""
        return getattr(self._mine, "late_clock", False)

    @late_clock.setter
    def late_clock(self, is_late: bool) -> None:
        self._mine.late_clock = is_late

    def attempt_name(self) -> str:
        """In the place of new_attempt_name()."""
        name = new_attempt_name()
        return f"1{name[1:]}" if self.late_clock else name

    def storage_of_this_thread(self, url: str) -> FaultyStorage:
        """In the place of Storage(url)."""
        assert url == self.options.storage
        storage: FaultyStorage = self._mine.storage
        return storage

    def on_build(self, _spec: TrialSpec) -> Callable[[int], None]:
        """Note a new attempt, and each of its steps."""
        going = Going(self.newest_valid_step())
        self.goings.append(going)

        def on_step(step: int) -> None:
            going.steps.append(step)
            if step == self._memory_lacks_at:
                self._memory_lacks_at = None
                raise torch.OutOfMemoryError("none left")

        return on_step

    # --- what is there --------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[dict[str, Any]]:
        """The commits that a second, slow and obvious reader accepts, by step."""
        storage, found = self.storage, []
        for attempt in storage.names(trial_path(self.trial_id, "attempts")):
            for name in storage.names(attempt_path(self.trial_id, attempt)):
                with suppress(FileNotFoundError, NotADirectoryError):
                    commit = json.loads(storage.read(attempt_path(self.trial_id, attempt, name, "commit.json")))
                    files = {f"{name}/{file}": seal["sha256_of_file"] for file, seal in commit["files"].items()}
                    paths = {attempt_path(self.trial_id, attempt, file): seal for file, seal in files.items()}
                    for segment in commit["segments"]:
                        path = attempt_path(self.trial_id, segment["attempt"], segment["file"])
                        paths[path] = segment["sha256_of_file"]
                    if all(hashlib.sha256(storage.read(path)).hexdigest() == seal for path, seal in paths.items()):
                        found.append(commit)
        return sorted(found, key=lambda commit: int(commit["step"]))

    def newest_valid_step(self) -> int:
        """The step from which an attempt has to go on."""
        return max((commit["step"] for commit in self.checkpoints()), default=0)

    def damage(self, what: Damaged) -> None:
        """Let a half-done trial's newest checkpoint, or the newest records behind it, rot or be exchanged."""
        found = self.checkpoints()
        if not found or self.check_result() is not None:
            return
        newest, storage = found[-1], self.storage
        segment = newest["segments"][-1]
        records = attempt_path(self.trial_id, segment["attempt"], segment["file"])
        path = records if what == "segment" else self._state_path(newest)
        content = storage.read(path)
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1] if content else b"?") + content[middle + 1 :]
        if what == "exchanged state":
            changed = storage.read(self._state_path(found[0]))
        storage.write(path, changed)
        self.was_damaged = self.was_damaged or changed != content

    def _state_path(self, commit: dict[str, Any]) -> str:
        return attempt_path(self.trial_id, commit["attempt"], checkpoint_name(commit["step"]), "state.pt")

    # --- what has to be true --------------------------------------------------------------------------------------

    def check_result(self) -> Result | None:
        """A result, where there is one, is the closed form: records, judgements, weights."""
        storage = self.storage
        result = read_result(storage, self.trial_id)
        if result is None:
            return None
        assert told_by(list(read_segments(storage, self.trial_id, result.segments))) == self.expected.records
        assert told_by(result.evaluations) == self.expected.evaluations
        if result.weights_sha256 is not None:
            content = storage.read(trial_path(self.trial_id, "weights.pt"))
            assert hashlib.sha256(content).hexdigest() == result.weights_sha256
            weights = from_bytes(content)
            assert weights["student"]["weight"].item() == self.expected.student
            teacher = None if weights["teacher"] is None else weights["teacher"]["weight"].item()
            assert teacher == self.expected.teacher
        assert (result.weights_sha256 is None) == (self.variant.keep == "nothing")
        return result

    def check_state(self) -> None:
        """Nobody thinks the trial failed, and what is sealed is there."""
        result, state = self.check_result(), trial_state(self.storage, self.trial_id)
        assert (state.kind == "done") == (result is not None)
        assert state.kind in ("done", "partial", "missing")
        if result is None and not self.was_damaged:
            valid = [commit["step"] for commit in self.checkpoints()]
            assert state.step == max(self.sealed, default=0) == max(valid, default=0)
            assert len(valid) >= min(2, len(set(self.sealed)))  # the newest, and one to fall back to

    def check_done(self) -> None:
        """The trial is done."""
        assert self.check_result() is not None
        assert trial_state(self.storage, self.trial_id).kind == "done"
        attempts = self.storage.names(trial_path(self.trial_id, "attempts"))
        assert (
            sum(self.storage.exists(trial_path(self.trial_id, name)) for name in ("result.json", "failure.json")) == 1
        )
        assert len(attempts) <= len(self.begun)

    def check_goings(self) -> None:
        """Each attempt went on from the newest valid checkpoint, and trained no more twice than one interval."""
        furthest = 0
        for going in self.goings:
            if going.steps:
                first, last = going.steps[0], going.steps[-1]
                assert going.steps == list(range(first, last + 1))
                assert first == going.newest
                assert self.was_damaged or furthest - first <= self.variant.checkpoint
                furthest = max(furthest, last + 1)
        assert furthest == self.spec.num_steps

    def check_resumes(self) -> None:
        """No attempt went on from behind the checkpoint that was the newest when it was built."""
        for going in self.goings:
            if going.steps:
                assert going.steps == list(range(going.steps[0], going.steps[-1] + 1))
                assert going.steps[0] >= going.newest

    @property
    def replayed(self) -> int:
        """Steps that were begun more often than once."""
        begun = [step for going in self.goings for step in going.steps]
        return len(begun) - len(set(begun))


@contextmanager
def open_room(variant: Variant) -> Iterator[Room]:
    """A room whose attempts train trivial trials on faulty storage."""
    with scratch(is_local=variant.is_local) as url:
        room = Room(variant, url)
        with trivial_world(room.on_build) as patch, hooked_sync():
            patch.setattr("trainer.run.Storage", room.storage_of_this_thread)
            patch.setattr("trainer.run.new_attempt_name", room.attempt_name)
            patch.setattr(logging.getLogger("mixgrid"), "propagate", False)  # thousands of attempts say the same
            yield room
