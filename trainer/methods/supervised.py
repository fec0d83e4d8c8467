"""Cross-entropy on labelled images alone: the lower bound of the table, and the first half of every other method."""

from collections.abc import Iterator, Mapping

from trainer.losses import supervised_loss, whole_batch_mean
from trainer.methods.base import Batch, Method, Networks, Objective, Phase, Stream


class SupervisedMethod(Method):
    """Source: ComplexMix section 3.2 equation 2; the rows "DeepLab-V2" of Table 1 (docs/methods.md card 3)."""

    def __init__(self, *, labeled_batch: int, num_steps: int) -> None:
        self._labeled_batch = labeled_batch
        self._num_steps = num_steps

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Labelled images only."""
        return (Stream("labeled", "labeled", self._labeled_batch),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase(0, self._num_steps, has_teacher=False),)

    def objectives(self, networks: Networks, batches: Mapping[str, Batch], step: int) -> Iterator[Objective]:
        """The supervised loss."""
        yield supervised_objective(networks, batches["labeled"])


def supervised_objective(networks: Networks, batch: Batch) -> Objective:
    """The student's cross-entropy on a labelled batch."""
    loss = supervised_loss(networks.student(batch.image), batch.label)
    return Objective("student", loss, {"supervised_loss": whole_batch_mean(loss)})
