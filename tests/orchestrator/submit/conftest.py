"""A job of the small table, and files that rendering must leave alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.resources import Placement
from orchestrator.submit.request import Job, Submission
from tests.orchestrator.conftest import small_table
from trainer.spec import RunOptions

GOLDEN = Path(__file__).parents[2] / "golden" / "submit"
# A table of a user as it may be sent anywhere: it needs nothing but the four rooms.
TABLE_FILE = """
from fractions import Fraction
from experiments.table import Frame, Row, Table
from trainer.spec import SGD, Evaluation, Supervised, Synthetic, TinyNetwork
SENT = Table(
    name="sent",
    title="A table that is sent",
    frame=Frame(
        dataset=Synthetic(num_train=12, num_eval=4, scene_height=32, scene_width=64, height=32, width=64),
        network=TinyNetwork(width=4),
        initial_weights="random",
        optimizer=SGD(learning_rate=0.02, head_multiplier=1.0),
        num_steps=12,
        evaluation=Evaluation(every=6),
    ),
    rows=(Row("Supervised", Supervised()),),
    fractions=(Fraction(1, 3),),
    seeds=(0, 1),
    is_demonstration=True,
)
"""


def submission(**changed: object) -> Submission:
    fields = {
        "table": small_table(),
        "words": ("/home/me/small.py", "--seeds", "0"),
        "options": RunOptions(storage="/shared/runs", data="/shared/data", device="cpu"),
        "placement": Placement(),
    }
    return Submission(**{**fields, **changed})


def job(attempt: int = 1, **changed: object) -> Job:
    words = ("inputs/0-small.py", "--seeds", "0")
    return Job(submission(**changed), attempt, words, "d1" * 32, "c0de" * 3)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a file of tests/golden/submit, or renew it (MIXGRID_RENEW_GOLDEN=1)."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("MIXGRID_RENEW_GOLDEN") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert text == path.read_text()

    return compare


@pytest.fixture
def sent_file(tmp_path: Path) -> Path:
    """A user's table of two cells that needs nothing but the four rooms."""
    path = tmp_path / "sent.py"
    path.write_text(TABLE_FILE)
    return path
