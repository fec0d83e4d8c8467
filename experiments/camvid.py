"""CamVid: real street images in the frame of Table 1, scaled to 360 x 480; reported on the 233 test frames.

Command: `mixgrid run camvid --data DIR` with `DIR/camvid` in the SegNet layout (a GPU is wanted for the whole of it).
On two CPU cores, a smaller one that shows the way works and cannot rank methods:
`mixgrid run camvid --data DIR --rows Supervised,ComplexMix --fractions 1/8 --seeds 0,1 --set num_steps=500 …`
(docs/log.md has the full command, its time and its numbers).
Nothing is selected on the test frames: the number is the last step's.
"""

from fractions import Fraction

from experiments.table import Frame, Row, Table
from trainer.spec import (
    DSTCBC,
    NAMED_METHODS,
    S4GAN,
    Adversarial,
    CamVid,
    ComplexMask,
    DeepLabV2,
    Evaluation,
    Mix,
    StrongAugmentation,
    Supervised,
)

_START = 2000
# 360 x 480 at 4 x 8 pixels and above: at most 60 blocks a side (docs/methods.md, section 13).
_COUNTS = (4, 16, 32, 60)
_FRENCH = NAMED_METHODS["french"].model_copy(update={"augmentation": StrongAugmentation()})


CAMVID = Table(
    name="camvid",
    title="CamVid test frames",
    frame=Frame(
        dataset=CamVid(),
        network=DeepLabV2(backbone="resnet101"),
        initial_weights="imagenet",
        num_steps=20_000,
        labeled_batch=2,
        unlabeled_batch=2,
        evaluation=Evaluation(every=5000),
    ),
    rows=(
        Row("Supervised", Supervised(), group=1),
        Row("Adversarial", Adversarial(self_taught_start=2500), group=2),
        Row("s4GAN", S4GAN(), group=2),
        Row("DST-CBC", DSTCBC(supervised_start=4000), group=2),
        Row("French et al. (CutMix)", _FRENCH, group=3),
        Row("ClassMix", Mix(), group=3),
        Row("ComplexMix", Mix(mask=ComplexMask(block_counts=_COUNTS), supervised_start=_START), group=4),
    ),
    fractions=(Fraction(1, 30), Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1)),
    seeds=(0, 1, 2, 3, 4),
    reference_row="Supervised",
)
