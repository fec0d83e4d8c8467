"""A job of the small table, and files that rendering must leave alone."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from orchestrator.resources import Placement
from orchestrator.submit.request import Job, Submission
from tests.orchestrator.conftest import small_table
from trainer.reading import read_manifests
from trainer.records import Manifest
from trainer.spec import RunOptions
from trainer.storage import Storage

Mixgrid = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "submit"
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


def mixgrid_on(environment: Mapping[str, str], table: Path, places: Mapping[str, str], code: Path) -> Mixgrid:
    """The command of the code in a folder, on a table's file and on the storage `runs` beside it."""

    def mixgrid(command: str, *words: str, device: str = "cpu") -> subprocess.CompletedProcess[str]:
        words = (table.name, *words)
        words += ("--data", places["data"], "--cache", places["cache"]) if command not in ("cancel", "logs") else ()
        words += ("--device", device) if command in ("run", "submit") else ()
        program = [sys.executable, "-m", "orchestrator.cli", command, *words]
        if "--storage" not in words:
            program += ["--storage", "runs"]
        return subprocess.run(
            program, cwd=table.parent, capture_output=True, text=True, check=False, timeout=460,
            env={**environment, "PYTHONPATH": str(code), "COLUMNS": "200"},
        )  # fmt: skip

    return mixgrid


def recorded_manifests(storage: Storage, *trial_ids: str) -> list[Manifest]:
    """What the attempts at some trials, or at all of a storage, ran on: in order for each trial."""
    names = trial_ids or storage.names("trials")
    return [manifest for trial_id in names for manifest in read_manifests(storage, trial_id)[0]]
