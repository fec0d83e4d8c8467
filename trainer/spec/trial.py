"""A trial: everything that decides its number, and the identity that follows from it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, model_validator

from trainer.spec.base import Count, LabelFraction, Part, Seed, parse_json
from trainer.spec.data import Cityscapes, Dataset, Normalization, View
from trainer.spec.method import Method, Supervised
from trainer.spec.network import DeepLabV2, InitialWeights, Network
from trainer.spec.training import SGD, Evaluation, Optimizer, Poly, Schedule


class TrialSpec(Part):
    """Everything that decides a trial's number.

    The learning problem (dataset, label_fraction, split), the network and its start, the method, the optimizer and its
    schedule, global batches and steps, precision, evaluation, and the seed of every draw. The seed also draws the split
    unless `split_seed` says otherwise; at fraction 1 there is no split. `labeled_names` imports a published list of
    labelled images instead of drawing one.

    `precision`: float32 and float64 are IEEE arithmetic everywhere; tf32 lets CUDA round the factors of products to 10
    bits, as torch does for convolutions by default; bf16 computes networks under autocast with float32 weights.
    """

    dataset: Dataset = Cityscapes()
    label_fraction: LabelFraction = Fraction(1)
    split_seed: Seed | None = None
    labeled_names: Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(sorted(names)))] | None = None
    unlabeled_pool: Literal["remainder", "all"] = "remainder"
    view: View = View()
    network: Network = DeepLabV2()
    initial_weights: InitialWeights = "coco"
    normalization: Normalization | None = None
    method: Method = Supervised()
    optimizer: Optimizer = SGD()
    schedule: Schedule = Poly()
    labeled_batch: Count = 2
    unlabeled_batch: Count = 2
    num_steps: Count = 40_000
    precision: Literal["float32", "tf32", "bf16", "float64"] = "float32"
    evaluation: Evaluation = Evaluation()
    seed: Seed = 0

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.label_fraction == 1 and self.split_seed is not None:
            raise ValueError("split_seed has no meaning at label_fraction 1: leave it out")
        if self.labeled_names is not None and self.split_seed is not None:
            raise ValueError("labeled_names is the split: leave split_seed out")
        if self.labeled_names is not None and len(set(self.labeled_names)) != len(self.labeled_names):
            raise ValueError("labeled_names names an image twice")
        if self.method.start_length + self.method.fewest_further_steps > self.num_steps:
            raise ValueError(
                f"method.supervised_start {self.method.start_length} leaves nothing of num_steps {self.num_steps}, "
                f"or less than the {self.method.fewest_further_steps} steps that have to follow: "
                "lower it, or train longer (--set num_steps=…, --set method.supervised_start=…)"
            )
        rarest = self.method.rarest_judgement(self.num_steps)
        if self.evaluation.every > rarest and rarest < self.num_steps:
            raise ValueError(
                f"evaluation.every {self.evaluation.every} leaves a round without a judgement to carry its best "
                f"weights on by: at most {rarest}, or --set method.carry=last"
            )
        size = (self.dataset.height, self.dataset.width)
        shown = (self.view.crop_height or size[0], self.view.crop_width or size[1])
        if shown[0] > size[0] or shown[1] > size[1]:
            raise ValueError(f"the crop {shown[0]}x{shown[1]} exceeds the image {size}")
        if min(shown) < self.method.smallest_view:
            raise ValueError(
                f"images of {shown[0]}x{shown[1]} are too small for the discriminator of {self.method.name}, which "
                f"wants {self.method.smallest_view} pixels a side: larger images or crops (dataset, view)"
            )
        return self

    @property
    def resolved_split_seed(self) -> int | None:
        """The seed that draws the labelled names; None where nothing is drawn."""
        if self.label_fraction == 1 or self.labeled_names is not None:
            return None
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def trial_id(self) -> str:
        """Method name and the first 12 hex digits of SHA-256 over `canonical_json`."""
        return _named(self, differing(self))

    def with_seeds(self, seeds: Iterable[int]) -> Iterator[tuple["TrialSpec", str]]:
        """The same trial with other draws, and the identity of each: no rule of a spec asks which seed it is.

        A grid has every trial many times but for its seed; this takes a tenth of the time of building each.

        Args:
            seeds: each a `Seed`, 0 to 2^32 - 1; it is not looked at again.
        """
        content = differing(self)
        content.pop("seed", None)
        default = type(self).model_fields["seed"].default
        for seed in seeds:
            own = content if seed == default else {**content, "seed": seed}
            yield self.model_copy(update={"seed": seed}), _named(self, own)


def differing(part: BaseModel) -> dict[str, Any]:
    """Keep the fields of `part` that differ from its class's defaults, at every depth; `kind` always stays."""
    kept: dict[str, Any] = {}
    dumped = part.model_dump(mode="json")  # fields have plain frozen defaults, never factories
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name == "kind":
            kept[name] = value
        elif field.is_required() or value != field.default:
            kept[name] = differing(value) if isinstance(value, BaseModel) else dumped[name]
    return kept


def canonical_json(spec: TrialSpec) -> str:
    """The content of a spec that makes its identity: sorted keys, no spaces, defaults left out."""
    return _canonical(differing(spec))


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _named(spec: TrialSpec, content: Mapping[str, Any]) -> str:
    return f"{spec.method.name}-{hashlib.sha256(_canonical(content).encode()).hexdigest()[:12]}"


def read_spec(path: Path) -> TrialSpec:
    """Read a spec from a JSON file as `mixgrid train` takes it.

    Raises: ValueError naming the file and the field.
    """
    try:
        return TrialSpec.model_validate(parse_json(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"cannot read the spec {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no valid trial spec: {error}") from error
