"""The methods of Table 1, each with every choice its source leaves open or its published code makes by mistake.

Where a value comes from a paper or its code, docs/methods.md has the card that says so.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.spec.base import Count, CountOrZero, Part, Share, Size
from trainer.spec.masks import MIX_NAMES, BlendMask, BoxMask, ClassMask, ComplexMask, CowMask, Mask

Weight = Annotated[float, Field(ge=0)]


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


class Discriminator(Part):
    """The second player of the adversarial methods: Adam, on the student's schedule."""

    learning_rate: float = Field(default=1e-4, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    width: int = Field(default=64, ge=1, le=512)


class MethodPart(Part):
    """What every method tells those who plan, check and judge a trial without knowing it by name."""

    @property
    def name(self) -> str:
        """The word a trial id begins with."""
        kind: str = getattr(self, "kind")  # noqa: B009  (every method has one, each its own literal)
        return kind

    @property
    def wants_unlabeled(self) -> bool:
        """Whether the method trains on unlabelled images."""
        return True

    @property
    def teacher_start(self) -> int | None:
        """Updates after which a teacher is judged beside the student; None where there never is one."""
        return None

    @property
    def start_length(self) -> int:
        """Steps of the supervised start, where there is one."""
        return int(getattr(self, "supervised_start", 0))

    @property
    def fewest_further_steps(self) -> int:
        """Steps that have to follow the supervised start."""
        return 1

    @property
    def smallest_view(self) -> int:
        """Height and width that a training image has at least."""
        return 1

    def rarest_judgement(self, num_steps: int) -> int:
        """The most steps that may lie between two judgements of a trial so long."""
        return num_steps

    def forward_units(self, labeled_batch: int, unlabeled_batch: int) -> float:
        """Forward passes of one image that a step costs once all its parts play, a backward pass counting as two.

        Source: docs/methods.md 2.7; what a discriminator costs is not among them.
        """
        return 3.0 * (labeled_batch + unlabeled_batch)


class Supervised(MethodPart):
    """Cross-entropy on the labelled images alone."""

    kind: Literal["supervised"] = "supervised"

    @property
    def wants_unlabeled(self) -> bool:
        """Whether the method trains on unlabelled images."""
        return False

    def forward_units(self, labeled_batch: int, unlabeled_batch: int) -> float:
        """Labelled images only."""
        return 3.0 * labeled_batch


class Mix(MethodPart):
    """Mean teacher on mixed unlabelled images. The defaults are ClassMix; the mask makes the method.

    `loss`: "cross_entropy" against the mixed arg-max (ClassMix), "soft_cross_entropy" against the mixed probabilities
    (equation 3 read with soft targets), "squared" difference of probabilities summed over classes (French et al.).
    `pairs`: "cyclic" pastes image i of the batch onto image i + 1, "two_streams" onto the same place of a second,
    independent stream of unlabelled images, in one direction (French et al.).
    """

    kind: Literal["mix"] = "mix"
    mask: Mask = ClassMask()
    pairs: Literal["cyclic", "two_streams"] = "cyclic"
    loss: Literal["cross_entropy", "soft_cross_entropy", "squared"] = "cross_entropy"
    gate: Literal["batch_share", "pixel", "none"] = "batch_share"
    confidence_threshold: Share = 0.968
    unlabeled_weight: Weight = 1.0
    ramp_up_steps: CountOrZero = 0  # counted from the end of the supervised start
    supervised_start: CountOrZero = 0
    teacher: Teacher = Teacher()
    augmentation: StrongAugmentation = StrongAugmentation()

    @property
    def name(self) -> str:
        """The word a trial id begins with."""
        return MIX_NAMES[self.mask.kind]

    @property
    def teacher_start(self) -> int | None:
        """The teacher is copied when the supervised start ends."""
        return self.supervised_start

    def forward_units(self, labeled_batch: int, unlabeled_batch: int) -> float:
        """The student on labelled and mixed images, the teacher on every unlabelled one."""
        streams = 2 if self.pairs == "two_streams" else 1
        return 3.0 * labeled_batch + (3.0 + streams) * unlabeled_batch


class Adversarial(MethodPart):
    """Hung et al.: a discriminator of label maps teaches the student, and marks what it may teach itself (card 4).

    `discriminator_sees_unlabeled`: predictions for unlabelled images are fakes too (the code's switch "remain", on);
    the earlier version of the paper trained the discriminator on labelled images only.
    `drops_adversarial_when_unconfident`: a step without one pixel to teach itself from gives up the adversarial loss on
    unlabelled images as well, as the published code does by its order of statements.
    """

    kind: Literal["adversarial"] = "adversarial"
    labeled_adversarial_weight: Weight = 0.01
    unlabeled_adversarial_weight: Weight = 0.001
    unlabeled_adversarial_start: CountOrZero = 0
    self_taught_weight: Weight = 0.1
    self_taught_start: CountOrZero = 5000
    self_taught_threshold: Share = 0.2
    discriminator_sees_unlabeled: bool = True
    drops_adversarial_when_unconfident: bool = False
    discriminator: Discriminator = Discriminator()

    @property
    def smallest_view(self) -> int:
        """The discriminator halves an image five times."""
        return 32


class S4GAN(MethodPart):
    """Mittal et al., the GAN branch: a discriminator of whole (class map, image) pairs (card 5).

    `dropout_when_scoring`: the discriminator's dropout stays on also where its scores choose images and its features
    are matched, as in the published code, which never leaves train mode.
    `real_image_range`: by which range the images beside the ground truth are brought to [0, 1]: their "own", or, as
    the published code has it by mistake, that of the "labeled" batch.
    """

    kind: Literal["s4gan"] = "s4gan"
    feature_matching_weight: Weight = 0.1
    self_training_weight: Weight = 1.0
    self_training_start: CountOrZero = 1
    score_threshold: Share = 0.7
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    dropout_when_scoring: bool = True
    real_image_range: Literal["own", "labeled"] = "own"
    discriminator: Discriminator = Discriminator(learning_rate=1e-5)

    @property
    def smallest_view(self) -> int:
        """The discriminator halves an image four times."""
        return 16


class DSTCBC(MethodPart):
    """Feng et al.: rounds of self-training with a dynamic loss and a class-balanced curriculum (card 6).

    After the supervised start the rest of the steps is shared equally by the rounds (a remainder goes to the last).
    Each begins with labels for the whole unlabelled pool, of which `label_ratios` says what share of each class is
    kept, and with a new optimizer and schedule. `gamma`: the published branch does not say it for Cityscapes; 3 is what
    its authors' next code uses there. `carry`: what a round starts from, the "last" weights of the one before or its
    "best" on the evaluation images (as published). `start_batch`: labelled images of a step of the supervised start,
    by default as many as later. `label_height` x `label_width`: the size at which the pool is labelled, by default the
    trained size.
    """

    kind: Literal["dst_cbc"] = "dst_cbc"
    supervised_start: CountOrZero = 8000
    label_ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.2, 0.4, 0.6, 0.8, 1.0), min_length=1
    )
    gamma: Weight = 3.0
    sample_every: Count = 16
    carry: Literal["last", "best"] = "last"
    start_batch: Count | None = None
    label_height: Size | None = None
    label_width: Size | None = None

    @model_validator(mode="after")
    def _label_size_is_whole(self) -> Self:
        if (self.label_height is None) != (self.label_width is None):
            raise ValueError("give both label_height and label_width, or neither")
        return self

    @property
    def name(self) -> str:
        """The word a trial id begins with."""
        return "dstcbc"

    @property
    def fewest_further_steps(self) -> int:
        """One for each round."""
        return len(self.label_ratios)

    def rarest_judgement(self, num_steps: int) -> int:
        """Where the best weights go on, every phase has a judgement to know them by."""
        share = (num_steps - self.supervised_start) // len(self.label_ratios)
        return num_steps if self.carry == "last" else min(self.supervised_start or share, share)


Method = Annotated[Supervised | Mix | Adversarial | S4GAN | DSTCBC, Field(discriminator="kind")]
AnyMethod = Supervised | Mix | Adversarial | S4GAN | DSTCBC

NO_AUGMENTATION = StrongAugmentation(jitter_probability=0.0, blur_probability=0.0)

# The methods by the names people use; tables, previews and contract tests walk them.
NAMED_METHODS: dict[str, AnyMethod] = {
    "supervised": Supervised(),
    "adversarial": Adversarial(),
    "adversarial_earlier": Adversarial(discriminator_sees_unlabeled=False, discriminator=Discriminator(beta2=0.999)),
    "s4gan": S4GAN(),
    "dst_cbc": DSTCBC(),
    "french": Mix(
        mask=BoxMask(),
        loss="squared",
        confidence_threshold=0.97,
        teacher=Teacher(warm_up=False, batch_norm="averaged"),
        augmentation=NO_AUGMENTATION,
    ),
    "cutmix": Mix(mask=BoxMask()),
    "cutmix_classmix_law": Mix(mask=BoxMask(law="classmix")),
    "classmix": Mix(mask=ClassMask()),
    "cowmix": Mix(mask=CowMask()),
    "ict": Mix(mask=BlendMask(), loss="squared", gate="none", unlabeled_weight=0.3),
    "complexmix": Mix(mask=ComplexMask(), supervised_start=2000),
    "complexmix_in_total": Mix(mask=ComplexMask(grid="in_total", classes="of_present"), supervised_start=2000),
    "complexmix_pixel_gate": Mix(mask=ComplexMask(), gate="pixel", supervised_start=2000),
}
