"""What a method says and what it is given. A method says its losses, players, streams and phases, nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from trainer.spec import Teacher as TeacherSpec

Action = Literal["copy_teacher"]
Pool = Literal["labeled", "unlabeled"]


@dataclass(frozen=True, slots=True)
class Objective:
    """One part of one turn of one player: backpropagated at once, so that its graph is freed before the next.

    `loss` is a scalar, weighted, scaled so that the average over ranks is the global batch's value; `scalars` are
    detached, equal on every rank, for the log.
    """

    player: str
    loss: Tensor
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """Images a method asks for at every step: `batch` of the global batch, drawn from `pool`."""

    name: str
    pool: Pool
    batch: int


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's part of a stream's global batch.

    `image` [n, 3, H, W] floating, RGB in [0, 1]; `label` [n, H, W] int64 with 255 where ignored or unlabelled;
    `index` [n] int64, the global sample index (step x batch + place), from which every per-sample draw is keyed.
    """

    image: Tensor
    label: Tensor
    index: Tensor


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps first_step .. first_step + num_steps - 1.

    `on_enter` is done before the first step, also after a resume there. `has_teacher` says whether the teacher follows
    the student and is judged in this phase.
    """

    first_step: int
    num_steps: int
    on_enter: tuple[Action, ...] = ()
    has_teacher: bool = True


class Network(Protocol):
    """Images [N, 3, H, W] in [0, 1] to logits [N, C, H, W]."""

    def __call__(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks a method may call: the student with gradient, the teacher without (None where there is none)."""

    student: Network
    teacher: Network | None


class Method(ABC):
    """Base of every method; a new one adds its spec, its file, a line in METHODS and one in docs/methods.md."""

    players: tuple[str, ...] = ("student",)
    teacher: TeacherSpec | None = None

    @property
    @abstractmethod
    def streams(self) -> tuple[Stream, ...]:
        """The streams it trains on."""

    @property
    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Its phases in order; they cover every step."""

    @abstractmethod
    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """Yield the objectives of one step; consecutive ones of one player share one optimizer step.

        Args:
            networks: what may be called.
            batches: one per stream, by name.
            step: updates done so far.
        """

    def pictures(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Sequence[tuple[str, Tensor]]:
        """Titled images [3, H, W] in [0, 1] of what the method makes of a batch; called on every rank."""
        return ()
