"""Every method of Table 1, optional rows included, on drawn street scenes with a small network, on any machine.

Command: `mixgrid run demo_methods`.
Cost: 22 trials of 240 steps on two CPU cores, no GPU; docs/log.md has the time.
Expected: every cell ends with a finite number. This is a demonstration on drawn scenes: it says that each method goes
the way from table to number, and nothing about which is better on real images.
Starts, lengths and discriminators are scaled to the short run; what is published for 40,000 steps is in
`experiments/table1.py`.
"""

from fractions import Fraction

from experiments.table import Frame, Row, Table
from experiments.table1 import ROWS
from trainer.spec import (
    DSTCBC,
    S4GAN,
    SGD,
    Adversarial,
    ComplexMask,
    CowMask,
    Discriminator,
    Evaluation,
    Mix,
    Supervised,
    Synthetic,
    TinyNetwork,
)

_START = 60
# The finest block is 4 x 8 pixels, as at the paper's size (docs/methods.md, section 13).
_PER_SIDE = ComplexMask(block_counts=(2, 4, 8, 16))
_METHODS = {row.label: row.method for row in ROWS}

DEMO_METHODS = Table(
    name="demo_methods",
    title="Demonstration of every method on synthetic street scenes",
    frame=Frame(
        dataset=Synthetic(),
        network=TinyNetwork(),
        initial_weights="random",
        optimizer=SGD(learning_rate=0.05, head_multiplier=1.0, weight_decay=1e-4),
        num_steps=240,
        labeled_batch=4,
        unlabeled_batch=4,
        evaluation=Evaluation(every=120),
    ),
    rows=(
        Row("Supervised", Supervised(), group=1),
        Row("Adversarial", Adversarial(self_taught_start=_START, discriminator=Discriminator(width=16)), group=2),
        Row("s4GAN", S4GAN(discriminator=Discriminator(learning_rate=1e-5, width=16)), group=2),
        # Five rounds of 36 steps follow.
        Row("DST-CBC", DSTCBC(supervised_start=_START), group=2),
        Row("French et al. (CutMix)", _METHODS["French et al. (CutMix)"], group=3),
        Row("ClassMix", _METHODS["ClassMix"], group=3),
        Row("ComplexMix", Mix(mask=_PER_SIDE, supervised_start=_START), group=4),
        Row(
            "ComplexMix (second reading)",
            Mix(mask=ComplexMask(grid="in_total", classes="of_present"), supervised_start=_START),
            group=4,
        ),
        Row("ComplexMix (per-pixel gate)", Mix(mask=_PER_SIDE, gate="pixel", supervised_start=_START), group=4),
        # An eighth of the paper's size in pixels, so an eighth of the noise's scale.
        Row("CowMix", Mix(mask=CowMask(sigma_min=1.0, sigma_max=4.0)), group=5),
        Row("ICT", _METHODS["ICT"], group=5),
    ),
    fractions=(Fraction(1, 8),),
    seeds=(0, 1),
    reference_row="Supervised",
    is_demonstration=True,
)
