"""The demonstration: three methods x two fractions x two seeds on synthetic street scenes, on any machine.

Command: `make demo`, or `mixgrid run demo`.
Cost: see README.md; two CPU cores, no GPU.
Expected: supervised clearly better at the larger fraction. This is a demonstration on drawn scenes with a small
network; it says that the way from table to number works and nothing about the ranking of methods on real images.
"""

from fractions import Fraction

from experiments.table import Frame, Row, Table
from trainer.spec import SGD, ComplexMask, Evaluation, Mix, Supervised, Synthetic, TinyNetwork

_START = 75

DEMO = Table(
    name="demo",
    title="Demonstration on synthetic street scenes",
    frame=Frame(
        dataset=Synthetic(),
        network=TinyNetwork(),
        initial_weights="random",
        optimizer=SGD(learning_rate=0.05, head_multiplier=1.0, weight_decay=1e-4),
        num_steps=300,
        labeled_batch=4,
        unlabeled_batch=4,
        evaluation=Evaluation(every=150),
    ),
    rows=(
        Row("Supervised", Supervised(), group=1),
        Row("ClassMix", Mix(), group=2),
        # The finest block is 4 x 8 pixels, as at the paper's size (docs/methods.md, section 13).
        Row("ComplexMix", Mix(mask=ComplexMask(block_counts=(2, 4, 8, 16)), supervised_start=_START), group=3),
    ),
    fractions=(Fraction(1, 30), Fraction(1, 4)),
    seeds=(0, 1),
    reference_row="Supervised",
    is_demonstration=True,
)
