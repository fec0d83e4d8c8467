"""The mixing masks a method may draw."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.spec.base import Part, Share


class AnyMask(Part):
    """What every mask says of itself."""

    @property
    def keeps_whole_pixels(self) -> bool:
        """Whether each pixel of a mix is that of one image: the mask is 0 or 1 everywhere."""
        return True


class BoxMask(AnyMask):
    """One box over half of the image: CutMix, by French et al.'s law or by ClassMix's trainer's (methods 9.1, 9.2)."""

    kind: Literal["box"] = "box"
    law: Literal["french", "classmix"] = "french"


class ClassMask(AnyMask):
    """Half of the classes present in the image (ClassMix)."""

    kind: Literal["class"] = "class"


class CowMask(AnyMask):
    """Thresholded smooth noise (CowMix); defaults as in ClassMix's trainer."""

    kind: Literal["cow"] = "cow"
    sigma_min: float = Field(default=8.0, gt=0)
    sigma_max: float = Field(default=32.0, gt=0)
    proportion_min: Share = 0.5
    proportion_max: Share = 0.5

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        if self.sigma_min > self.sigma_max or self.proportion_min > self.proportion_max:
            raise ValueError("cow mask: sigma_min <= sigma_max and proportion_min <= proportion_max are wanted")
        return self


class ComplexMask(AnyMask):
    """Half of the classes in each block of a grid (ComplexMix, paper section 3.1).

    Every point that the paper leaves open is a field (docs/methods.md, 9.7).
    `grid`: "per_side" reads "p x p blocks" literally; "in_total" is the introduction's "number of squares".
    `classes`: "of_all" reads "C is the total number of classes" literally; "of_present" is the introduction's
    "half of the predicted classes". The two consistent readings pair the first words and the second words.
    `rounding` of half of an odd number: "random" tosses a coin for each block. `count_scope`: whether a block count is
    drawn once for the whole batch of a step or for each image.
    """

    kind: Literal["complex"] = "complex"
    block_counts: tuple[int, ...] = Field(default=(4, 16, 64, 128), min_length=1)
    grid: Literal["per_side", "in_total"] = "per_side"
    classes: Literal["of_all", "of_present"] = "of_all"
    rounding: Literal["floor", "ceil", "random"] = "floor"
    count_scope: Literal["batch", "image"] = "batch"

    @model_validator(mode="after")
    def _counts_are_sane(self) -> Self:
        if any(not 1 <= count <= 1024 for count in self.block_counts):
            raise ValueError(f"block_counts {self.block_counts} must lie in 1..1024")
        return self


class BlendMask(AnyMask):
    """No mask: both images everywhere, by one share of Beta(alpha, alpha) an image (ICT; alpha as French et al.)."""

    kind: Literal["blend"] = "blend"
    alpha: float = Field(default=0.1, ge=0.05, le=2)

    @property
    def keeps_whole_pixels(self) -> bool:
        """A blend has a share of both images at every pixel."""
        return False


Mask = Annotated[BoxMask | ClassMask | CowMask | ComplexMask | BlendMask, Field(discriminator="kind")]
MIX_NAMES = {"box": "cutmix", "class": "classmix", "cow": "cowmix", "complex": "complexmix", "blend": "ict"}
