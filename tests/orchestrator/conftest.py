"""A small table on drawn scenes."""

from fractions import Fraction
from pathlib import Path

import pytest

from experiments.table import Frame, Row, Table
from trainer.spec import SGD, ComplexMask, Evaluation, Mix, Supervised, Synthetic, TinyNetwork

TABLE_FILE = """
from tests.orchestrator.conftest import small_table
SMALL = small_table()
"""


def small_table(num_steps: int = 12) -> Table:
    """Supervised and ComplexMix at one fraction and one seed: seconds on a CPU."""
    return Table(
        name="small",
        title="A small table",
        frame=Frame(
            dataset=Synthetic(num_train=12, num_eval=4, scene_height=32, scene_width=64, height=32, width=64),
            network=TinyNetwork(width=4),
            initial_weights="random",
            optimizer=SGD(learning_rate=0.02, head_multiplier=1.0),
            num_steps=num_steps,
            evaluation=Evaluation(every=max(1, num_steps // 2)),
        ),
        rows=(
            Row("Supervised", Supervised()),
            Row("ComplexMix", Mix(mask=ComplexMask(block_counts=(2, 4)), supervised_start=3), group=2),
        ),
        fractions=(Fraction(1, 3),),
        seeds=(0,),
        is_demonstration=True,
    )


@pytest.fixture
def table_file(tmp_path: Path) -> str:
    """The small table as a user's own Python file."""
    path = tmp_path / "small_table.py"
    path.write_text(TABLE_FILE)
    return str(path)
