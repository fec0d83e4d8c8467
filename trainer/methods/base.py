"""What a method says and what it is given. A method says its losses, players, streams and phases, nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from trainer.data.pool_labels import PoolLabels
from trainer.spec import Discriminator as DiscriminatorSpec
from trainer.spec import Teacher as TeacherSpec

Action = Literal["copy_teacher", "carry_best", "restart_optimizers", "label_pool"]
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
    """Images a method asks for at every step: `batch` of the global batch, drawn from `pool`.

    With `shows_pool_labels` unlabelled images come with the labels that the phase gave the pool, where it gave any.
    """

    name: str
    pool: Pool
    batch: int
    shows_pool_labels: bool = False


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

    `on_enter` is done before the first step, also after a resume there: copy the student to the teacher, go on from
    the best weights of the phase before, forget the optimizers' momentum, label the unlabelled pool. `has_teacher` says
    whether the teacher follows the student and is judged in this phase. With `restarts_schedule` learning rates run
    through their schedule within the phase, else over the whole trial. With `keeps_best` the student's best judged
    weights are remembered. `streams` names those that are read in this phase; None means all.
    """

    first_step: int
    num_steps: int
    on_enter: tuple[Action, ...] = ()
    has_teacher: bool = True
    restarts_schedule: bool = False
    keeps_best: bool = False
    streams: tuple[str, ...] | None = None


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that the update after `step` updates belongs to; after the last one, the last phase."""
    return next(phase for phase in reversed(phases) if phase.first_step <= step)


class Network(Protocol):
    """Images [N, 3, H, W] in [0, 1] to logits [N, C, H, W]."""

    def __call__(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks a method may call.

    `student` has gradients, `teacher` has none (None where there is none). `discriminator` has gradients for its own
    turn; `critic` is the same network for the student's turn: gradients pass through it to its input, its own weights
    stay out of it. Both take what the method's discriminator takes and give what it gives.
    """

    student: Network
    teacher: Network | None
    discriminator: Callable[..., Any] | None = None
    critic: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class PoolPart:
    """This rank's share of the unlabelled pool, to be labelled.

    `batches()` yields images [n, 3, H, W] in [0, 1], in the order of `names`, whole and unaugmented, as often as asked.
    """

    names: tuple[str, ...]
    batches: Callable[[], Iterator[Tensor]]
    height: int
    width: int


class Method(ABC):
    """Base of every method; a new one adds its spec, its file, a line in METHODS and one in docs/methods.md."""

    players: tuple[str, ...] = ("student",)
    teacher: TeacherSpec | None = None
    discriminator: DiscriminatorSpec | None = None

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

    def label_pool(self, student: Network, pool: PoolPart, step: int) -> PoolLabels:
        """Labels for the whole unlabelled pool; called on every rank on entering a phase that asks for it.

        Args:
            student: in eval mode, without gradient.
            pool: this rank's share; what is returned covers all ranks'.
            step: updates done so far.
        """
        raise TypeError(f"{type(self).__name__} has a phase that labels the pool, but does not say how")

    def pictures(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Sequence[tuple[str, Tensor]]:
        """Titled images [3, H, W] in [0, 1] of what the method makes of a batch, or none.

        Called now and then on rank 0 as if it were alone, with the whole global batches of a step, without gradient
        and with running averages at rest.
        """
        return ()
