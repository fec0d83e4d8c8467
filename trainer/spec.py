"""What a trial is: frozen values that decide the number, and nothing else. Loads neither torch nor ray.

Every default is the paper's configuration (ComplexMix, arXiv:2101.10156, sections 3.2 and 4) or, where the paper is
silent, the choice named in docs/methods.md. Defaults never change, since the identity of a trial is the content that
differs from them; a new field therefore orphans no finished trial.
"""

import hashlib
import json
from collections import Counter
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator


class Part(BaseModel):
    """A frozen piece of a spec: unknown fields are errors, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def parse_fraction(given: object) -> Fraction:
    """Read a label fraction such as "1/8", "1" or a Fraction.

    Raises: ValueError unless it is one whole number over another, above 0 and at most 1.
    """
    text = str(given).strip()
    numerator, slash, denominator = text.partition("/")
    denominator = denominator if slash else "1"
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in (numerator, denominator)):
        raise ValueError(f"label fraction {text[:40]!r} is not a whole number over a whole number, such as 1/8 or 1")
    if int(denominator) == 0 or not 0 < Fraction(int(numerator), int(denominator)) <= 1:
        raise ValueError(f"label fraction {text!r} is outside (0, 1]: give 1/30, 1/8, 1/4, 1/2 or 1, say")
    return Fraction(int(numerator), int(denominator))


def parse_json(text: str | bytes) -> Any:
    """Read JSON in which no object names a field twice: of two values one would silently count.

    Raises: ValueError.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        doubles = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"fields are given twice: {', '.join(map(repr, doubles))}")
    return fields


def refuse_bad_class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names back. Raises: ValueError where results could not tell them apart, or from the mean's line."""
    if len(set(names)) != len(names) or MEAN in names:
        raise ValueError(f"class names differ from each other, and none is {MEAN!r}: {', '.join(names)[:200]}")
    if not all(name.strip() and name.isprintable() and len(name) <= 100 for name in names):
        raise ValueError("a class name is printable text of 1 to 100 characters")
    return names


MEAN = "mean"
"""What results call the line of the mean over classes."""
LabelFraction = Annotated[Fraction, BeforeValidator(parse_fraction), PlainSerializer(str, return_type=str)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=8, le=8192)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
ClassNames = Annotated[tuple[str, ...], AfterValidator(refuse_bad_class_names)]
FolderName = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


# --- what is trained on -------------------------------------------------------------------------------------------


class Cityscapes(Part):
    """Cityscapes in its own layout below `<data>/cityscapes`, 19 classes, resized (paper section 4)."""

    kind: Literal["cityscapes"] = "cityscapes"
    height: Size = 512
    width: Size = 1024
    train_split: FolderName = "train"
    eval_split: FolderName = "val"


class CamVid(Part):
    """CamVid in the SegNet layout below `<data>/camvid`, 11 classes; reported on the test frames."""

    kind: Literal["camvid"] = "camvid"
    height: Size = 360
    width: Size = 480
    train_split: FolderName = "train"
    eval_split: FolderName = "test"


class Synthetic(Part):
    """Street scenes drawn by us and written to disk in the Cityscapes layout: a demonstration, never a benchmark."""

    kind: Literal["synthetic"] = "synthetic"
    height: Size = 64
    width: Size = 128
    scene_height: Size = 128
    scene_width: Size = 256
    num_train: Count = 240
    num_eval: Count = 60
    scene_seed: Seed = 0
    train_split: Literal["train"] = "train"
    eval_split: Literal["val"] = "val"


class Folders(Part):
    """Any dataset given by folders of images and label maps, below `<data>`.

    A split is a folder of images below `images` and a folder of the same name below `labels`; a label has the stem of
    its image plus `label_suffix`. Images without a label file are unlabelled. `label_ids` maps a stored value to a
    class index; without it a stored value is the class index.
    """

    kind: Literal["folders"] = "folders"
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    images: FolderName
    labels: FolderName
    class_names: ClassNames = Field(min_length=2, max_length=254)
    height: Size
    width: Size
    ignore_value: int = Field(default=255, ge=0, le=255)
    label_suffix: FolderName = ".png"
    label_ids: dict[int, int] | None = None
    train_split: FolderName = "train"
    eval_split: FolderName = "val"


Dataset = Annotated[Cityscapes | CamVid | Synthetic | Folders, Field(discriminator="kind")]


class View(Part):
    """What of an image a training step sees; the whole image unless a crop is asked for (paper section 4: no crop)."""

    crop_height: Size | None = None
    crop_width: Size | None = None
    flip: bool = False

    @model_validator(mode="after")
    def _crop_is_a_rectangle(self) -> Self:
        if (self.crop_height is None) != (self.crop_width is None):
            raise ValueError("give both view.crop_height and view.crop_width, or neither")
        return self


# --- the network --------------------------------------------------------------------------------------------------


class DeepLabV2(Part):
    """DeepLab-V2 as the published codes run it (docs/methods.md, "The shared network")."""

    kind: Literal["deeplab_v2"] = "deeplab_v2"
    backbone: Literal["resnet50", "resnet101"] = "resnet101"
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "batch_statistics"


class TinyNetwork(Part):
    """A small residual network with the same kind of head: trains in seconds on a CPU."""

    kind: Literal["tiny"] = "tiny"
    width: int = Field(default=16, ge=4, le=512)
    output_stride: Literal[4, 8] = 4
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "trained"


class TimmNetwork(Part):
    """A timm feature extractor below the same head (extra `timm`)."""

    kind: Literal["timm"] = "timm"
    backbone: str = "tf_efficientnet_lite0"
    output_stride: Literal[8, 16, 32] = 16
    head_branches: Literal[2, 4] = 2
    batch_norm: Literal["batch_statistics", "frozen", "trained"] = "trained"


Network = Annotated[DeepLabV2 | TinyNetwork | TimmNetwork, Field(discriminator="kind")]
InitialWeights = Literal["random", "imagenet", "coco"]


# --- the method ---------------------------------------------------------------------------------------------------


class BoxMask(Part):
    """One box over half of the image: CutMix, by French et al.'s law or by ClassMix's trainer's (methods 9.1, 9.2)."""

    kind: Literal["box"] = "box"
    law: Literal["french", "classmix"] = "french"


class ClassMask(Part):
    """Half of the classes present in the image (ClassMix)."""

    kind: Literal["class"] = "class"


class CowMask(Part):
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


class ComplexMask(Part):
    """Half of the classes in each block of a grid (ComplexMix, paper section 3.1).

    `grid`: "per_side" reads "p x p blocks" literally; "in_total" is the introduction's "number of squares".
    `classes`: "of_all" reads "C is the total number of classes" literally; "of_present" is the introduction's
    "half of the predicted classes". The two consistent readings pair the first words and the second words.
    """

    kind: Literal["complex"] = "complex"
    block_counts: tuple[int, ...] = Field(default=(4, 16, 64, 128), min_length=1)
    grid: Literal["per_side", "in_total"] = "per_side"
    classes: Literal["of_all", "of_present"] = "of_all"
    rounding: Literal["floor", "ceil"] = "floor"

    @model_validator(mode="after")
    def _counts_are_sane(self) -> Self:
        if any(not 1 <= count <= 1024 for count in self.block_counts):
            raise ValueError(f"block_counts {self.block_counts} must lie in 1..1024")
        return self


Mask = Annotated[BoxMask | ClassMask | CowMask | ComplexMask, Field(discriminator="kind")]
MIX_NAMES = {"box": "cutmix", "class": "classmix", "cow": "cowmix", "complex": "complexmix"}


class Teacher(Part):
    """The averaged network: decay min(1 - 1/(k + 1), ema_decay), k counted from the copy (ClassMix).

    `batch_norm`: "own" keeps the teacher in train mode with statistics of its own batches, buffers not averaged
    (ClassMix); "averaged" averages the buffers too and runs the teacher in eval mode (French et al.).
    """

    ema_decay: Share = 0.99
    warm_up: bool = True
    batch_norm: Literal["own", "averaged"] = "own"


class StrongAugmentation(Part):
    """Colour jitter and blur on mixed images, one draw for the batch (ClassMix; probability 0.8 in its code)."""

    jitter_probability: Share = 0.8
    jitter_strength: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    blur_probability: Share = 0.5
    blur_sigma_min: float = Field(default=0.15, gt=0)
    blur_sigma_max: float = Field(default=1.15, gt=0)

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.blur_sigma_min > self.blur_sigma_max:
            raise ValueError(f"blur_sigma_min {self.blur_sigma_min} exceeds blur_sigma_max {self.blur_sigma_max}")
        return self


class Supervised(Part):
    """Cross-entropy on the labelled images alone."""

    kind: Literal["supervised"] = "supervised"

    @property
    def name(self) -> str:
        """The word a trial id begins with."""
        return "supervised"

    @property
    def wants_unlabeled(self) -> bool:
        """Whether the method trains on unlabelled images."""
        return False

    @property
    def teacher_start(self) -> int | None:
        """Updates after which a teacher is judged beside the student; None where there never is one."""
        return None


class Mix(Part):
    """Mean teacher on mixed unlabelled images. The defaults are ClassMix; the mask makes the method."""

    kind: Literal["mix"] = "mix"
    mask: Mask = ClassMask()
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    gate: Literal["batch_share", "pixel", "none"] = "batch_share"
    confidence_threshold: Share = 0.968
    unlabeled_weight: float = Field(default=1.0, ge=0)
    ramp_up_steps: CountOrZero = 0  # counted from the end of the supervised start
    supervised_start: CountOrZero = 0
    teacher: Teacher = Teacher()
    augmentation: StrongAugmentation = StrongAugmentation()

    @property
    def name(self) -> str:
        """The word a trial id begins with."""
        return MIX_NAMES[self.mask.kind]

    @property
    def wants_unlabeled(self) -> bool:
        """Whether the method trains on unlabelled images."""
        return True

    @property
    def teacher_start(self) -> int | None:
        """Updates after which a teacher is judged beside the student; None where there never is one."""
        return self.supervised_start


Method = Annotated[Supervised | Mix, Field(discriminator="kind")]


# --- how it is trained and judged ---------------------------------------------------------------------------------


class SGD(Part):
    """SGD with momentum (paper section 3.2); the head learns `head_multiplier` times faster (ClassMix)."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=2.5e-4, gt=0)
    momentum: Share = 0.9
    weight_decay: float = Field(default=5e-4, ge=0)
    head_multiplier: float = Field(default=10.0, gt=0)


Optimizer = SGD


class Poly(Part):
    """learning_rate x (1 - step / num_steps) ** power (DeepLab's schedule, paper section 3.2)."""

    kind: Literal["poly"] = "poly"
    power: float = Field(default=0.9, ge=0)


Schedule = Poly


class Evaluation(Part):
    """When the networks are judged: after every `every` steps and after the last one."""

    every: Count = 5000


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
        start = getattr(self.method, "supervised_start", 0)
        if start >= self.num_steps:
            raise ValueError(
                f"method.supervised_start {start} leaves nothing of num_steps {self.num_steps}: "
                "lower it, or train longer (--set num_steps=…, --set method.supervised_start=…)"
            )
        if self.view.crop_height is not None and self.view.crop_width is not None:
            size = (self.dataset.height, self.dataset.width)
            if self.view.crop_height > size[0] or self.view.crop_width > size[1]:
                raise ValueError(f"the crop {self.view.crop_height}x{self.view.crop_width} exceeds the image {size}")
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
        return f"{self.method.name}-{hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]}"


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
    return json.dumps(differing(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def count_labeled(fraction: Fraction, num_images: int) -> int:
    """ceil(fraction x num_images): 100, 372, 744 and 1488 of Cityscapes' 2975 at 1/30, 1/8, 1/4 and 1/2."""
    return ceil(fraction * num_images)


# --- what does not decide the number ------------------------------------------------------------------------------


def absolute_place(place: str) -> str:
    """A local folder as an absolute path, since workers run in other folders; a URL as it is."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


Place = Annotated[str, AfterValidator(absolute_place)]


class RunOptions(Part):
    """Where and on what a trial runs: recorded with every attempt, never part of its identity. Places are absolute.

    `threads` fixes torch's intra-op threads, because Ray, torchrun and plain Python set them differently.
    `checkpoint_every` and `log_every` count steps; 0 lets the length of the trial decide. A process that makes no step
    for `hang_seconds` is ended and tried again (0: never); `progress_seconds` is how often an attempt says how far it
    is. `activation_checkpointing` trades time for memory and `deterministic` time for equal bits on a GPU; neither
    changes what is computed.
    """

    storage: Place = "runs"
    data: Place = "data"
    cache: Place | None = None
    weights: Place | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
    log_every: int = Field(default=0, ge=0)
    keep: Literal["weights", "checkpoints", "nothing"] = "weights"
    accept_change: bool = False
    hang_seconds: float = Field(default=1800.0, ge=0)
    progress_seconds: float = Field(default=10.0, ge=0)
    activation_checkpointing: bool = False
    deterministic: bool = False

    def changed(self, **fields: Any) -> "RunOptions":
        """These options with some fields changed and checked."""
        return RunOptions(**{**self.model_dump(), **fields})

    def checkpoint_interval(self, num_steps: int) -> int:
        """Steps between two checkpoints: as asked, or a twentieth of the trial within 25..1000."""
        return self.checkpoint_every or min(1000, max(25, num_steps // 20))

    def log_interval(self, num_steps: int) -> int:
        """Steps between two training records: as asked, or a fiftieth of the trial within 5..100."""
        return self.log_every or min(100, max(5, num_steps // 50))


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


# The methods by the names people use; tables, previews and contract tests walk them.
NAMED_METHODS: dict[str, Supervised | Mix] = {
    "supervised": Supervised(),
    "cutmix": Mix(mask=BoxMask()),
    "cutmix_classmix_law": Mix(mask=BoxMask(law="classmix")),
    "classmix": Mix(mask=ClassMask()),
    "cowmix": Mix(mask=CowMask()),
    "complexmix": Mix(mask=ComplexMask(), supervised_start=2000),
    "complexmix_in_total": Mix(mask=ComplexMask(grid="in_total", classes="of_present"), supervised_start=2000),
}
