"""Blocks of ComplexMix and what else its text leaves open, at 1/8 of Cityscapes in the frame of Table 1.

Each row changes one thing of the row "ComplexMix", which is table1's: p drawn from {4, 16, 64, 128} for each step,
p x p blocks, half of all classes in each, lambda 1, gate by the batch's confident share, 2,000 supervised steps. That
row, the second reading, the gate per pixel and ClassMix are trials of table1, trained once for both
(docs/methods.md, 9.7, 13).
Command: `mixgrid run ablation_blocks --data DIR`, with the data and weights of table1.
Cost: 51 trials, 2.1e19 FLOP: 57 to 95 GPU-hours, assumed that an H100 in tf32 or bf16 achieves 100 to 60 TFLOP/s
(methods 2.7); 6 of the trials are table1's, 6 those of its optional rows.
Expected, mean IoU in percent: ClassMix 61.35, ComplexMix 62.25 ± 1.22 (arXiv:2101.10156, Table 1, 1/8). No ablation was
published. "Half of those present" in p x p blocks should fall back: at p = 64 and 128 it mixes next to nothing (9.7).
Three seeds tell differences of a point and more, hardly less: the paper's own spread here is 1.22.
"""

from fractions import Fraction

from experiments.table import Frame, Row, Table
from trainer.spec import NAMED_METHODS, ComplexMask, Mix

_START = 2000


def _fixed(count: int) -> Mix:
    return Mix(mask=ComplexMask(block_counts=(count,)), supervised_start=_START)


def _with(mask: ComplexMask) -> Mix:
    return Mix(mask=mask, supervised_start=_START)


ABLATION_BLOCKS = Table(
    name="ablation_blocks",
    title="ComplexMix at 1/8 of Cityscapes, one thing changed in each row (controlled frame)",
    frame=Frame(),
    rows=(
        Row("ClassMix", NAMED_METHODS["classmix"], group=1),
        Row("ComplexMix", NAMED_METHODS["complexmix"], group=1),
        *(Row(f"p = {count}", _fixed(count), group=2) for count in (4, 16, 64, 128)),
        # 9.7, points 1 and 2: the two consistent readings are ComplexMix above and the first of these.
        Row("p blocks in all: half of present", NAMED_METHODS["complexmix_in_total"], group=3),
        Row("p blocks in all: half of all classes", _with(ComplexMask(grid="in_total")), group=3),
        Row("p x p blocks: half of present", _with(ComplexMask(classes="of_present")), group=3),
        *(
            Row(
                f"lambda = {weight}", Mix(mask=ComplexMask(), unlabeled_weight=weight, supervised_start=_START), group=4
            )
            for weight in (0.5, 2.0)
        ),
        Row("gate per pixel", NAMED_METHODS["complexmix_pixel_gate"], group=5),
        Row("no gate", Mix(mask=ComplexMask(), gate="none", supervised_start=_START), group=5),
        *(
            Row(f"supervised start {steps}", Mix(mask=ComplexMask(), supervised_start=steps), group=6)
            for steps in (0, 1000, 5000, 10_000)
        ),
    ),
    fractions=(Fraction(1, 8),),
    seeds=(0, 1, 2),
    published="complexmix_table1",
    reference_row="ClassMix",
)
