"""How a trial is trained and judged: optimizers, schedules, evaluation."""

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.spec.base import Count, Part, Share, Size


def of_kind(kind: str, given: Any) -> Any:
    """Read fields without a kind as those of `kind`, which was once the only one."""
    return {"kind": kind, **given} if isinstance(given, dict) else given


class SGD(Part):
    """SGD with momentum (paper section 3.2); the head learns `head_multiplier` times faster (ClassMix).

    `repeats_backbone` updates a backbone weight once for each module that contains it, with the same gradient and one
    momentum: what the generator of the AdvSemiSeg lineage, which lists parameters several times, made of a step.
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=2.5e-4, gt=0)
    momentum: Share = 0.9
    weight_decay: float = Field(default=5e-4, ge=0)
    head_multiplier: float = Field(default=10.0, gt=0)
    nesterov: bool = False
    repeats_backbone: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Part):
    """Adam; defaults as French et al. have it: 3e-5 for the head and a tenth of it for the body."""

    kind: Literal["adam"] = "adam"
    learning_rate: float = Field(default=3e-6, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    head_multiplier: float = Field(default=10.0, gt=0)
    repeats_backbone: bool = False


Optimizer = Annotated[SGD | Adam, Field(discriminator="kind"), BeforeValidator(partial(of_kind, "sgd"))]


class Poly(Part):
    """learning_rate x (1 - step / num_steps) ** power (DeepLab's schedule, paper section 3.2)."""

    kind: Literal["poly"] = "poly"
    power: float = Field(default=0.9, ge=0)


class Constant(Part):
    """The learning rate stays (French et al.)."""

    kind: Literal["constant"] = "constant"


Schedule = Annotated[Poly | Constant, Field(discriminator="kind"), BeforeValidator(partial(of_kind, "poly"))]


class Evaluation(Part):
    """When the networks are judged, after every `every` steps and after the last one, and on what.

    `protocol`: "resized" judges at the trained size against labels of that size, as every number of Table 1 was;
    "full_whole" and "full_sliding" judge against labels as they lie on disk, the network seeing the whole image at
    once or windows of it (`window_height` x `window_width`, by default the size a training step sees) that overlap
    by `window_overlap` of their sides and whose probabilities are averaged.
    """

    every: Count = 5000
    protocol: Literal["resized", "full_whole", "full_sliding"] = "resized"
    window_height: Size | None = None
    window_width: Size | None = None
    window_overlap: float = Field(default=1 / 3, ge=0, le=0.9)

    @property
    def is_resized(self) -> bool:
        """Whether it is judged at the trained size; else at the size of the files."""
        return self.protocol == "resized"

    @model_validator(mode="after")
    def _window_belongs_to_sliding(self) -> Self:
        given = (self.window_height, self.window_width)
        if given != (None, None) and (None in given or self.protocol != "full_sliding"):
            raise ValueError("give window_height and window_width together, with protocol full_sliding")
        return self
