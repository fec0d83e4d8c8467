"""Table 1 of the ComplexMix paper (arXiv:2101.10156), controlled: one frame, so that a column compares methods only.

Command: `mixgrid run table1 --data DIR` with `DIR/cityscapes` and `DIR/weights/resnet101COCO-41f33a49.pth`.
Cost: 40,000 steps a trial; about 10 TFLOP a step for a mixing row (docs/methods.md, section 2.7).
Expected, mean IoU in percent at 1/30, 1/8, 1/4, 1/2 and full (paper, Table 1): DeepLab-V2 43.84, 54.84, 60.08, 63.02,
66.19; French et al. 51.20, 60.34, 63.87; ClassMix 54.07, 61.35, 63.63, 66.29; ComplexMix 53.88, 62.25, 64.07, 66.77.
The paper copies the first three from papers with other frames, so those need not come back here.
"""

from fractions import Fraction

from experiments.table import Frame, Row, Table
from trainer.spec import NAMED_METHODS

TABLE1 = Table(
    name="table1",
    title="Cityscapes val at 512 x 1024 (Table 1 of arXiv:2101.10156, controlled frame)",
    frame=Frame(),
    rows=(
        Row("DeepLab-V2", NAMED_METHODS["supervised"], group=1),
        Row("CutMix", NAMED_METHODS["cutmix"], group=3),
        Row("ClassMix", NAMED_METHODS["classmix"], group=3),
        Row("ComplexMix", NAMED_METHODS["complexmix"], group=4),
    ),
    fractions=(Fraction(1, 30), Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1)),
    seeds=(0, 1, 2, 3, 4),
    published="complexmix_table1",
    reference_row="DeepLab-V2",
)
