"""What `run` says of its progress where there is no terminal."""

import io

import pytest
from rich.console import Console

from orchestrator.cli.running import _display
from orchestrator.progress import GridProgress, TrialProgress


def test_why_nothing_starts_is_said_at_once_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = GridProgress({"a": TrialProgress("a")})
    with _display(Console(file=io.StringIO())) as show:
        for note in ("", "", "waiting for nodes", "waiting for nodes", ""):
            progress.note = note
            show(progress)
    first, waiting, over = capsys.readouterr().out.splitlines()
    assert first == over == "0 done, 0 running, 0 failed, 1 waiting; 0.0 steps/s"
    assert waiting == f"{first}; waiting for nodes"
