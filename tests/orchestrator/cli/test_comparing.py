"""The command `compare`, on the demonstration before anything was run."""

import csv
import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.demo import DEMO
from orchestrator.cli.app import app
from orchestrator.cli.output import computed
from results.statistics import format_statistics_csv
from trainer.storage import Storage


def call(*words: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["compare", *words])
    return ended.exit_code, ended.output + str(ended.exception or "")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return ["demo", "--storage", str(tmp_path / "runs")]


def test_the_screen_says_what_is_compared_with_what_and_claims_nothing(words: list[str]) -> None:
    code, text = call(*words)
    assert code == 0
    assert "compared with Supervised" in " ".join(text.split())
    assert "none of 4 pairs being done in both rows" in " ".join(text.split())


def test_another_row_can_be_the_reference(words: list[str]) -> None:
    assert "compared with ClassMix" in " ".join(call(*words, "--reference", "ClassMix")[1].split())


def test_the_file_is_the_csv_of_results(words: list[str], tmp_path: Path) -> None:
    code, text = call(*words, "-o", str(tmp_path / "out" / "statistics.csv"))
    assert (code, text.strip()) == (0, str(tmp_path / "out" / "statistics.csv"))
    written = (tmp_path / "out" / "statistics.csv").read_text()
    assert written == format_statistics_csv(computed(DEMO, Storage(str(tmp_path / "runs"))))
    assert [line["row"] for line in csv.DictReader(io.StringIO(written))] == ["ClassMix", "ComplexMix"]


@pytest.mark.parametrize(("option", "value"), [("--reference", "Nobody"), ("--margin", "0")])
def test_what_cannot_be_compared_is_said_before_anything_is_printed(words: list[str], option: str, value: str) -> None:
    code, text = call(*words, option, value)
    assert code != 0
    assert value in text
