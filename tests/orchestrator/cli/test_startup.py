"""What a command must not load before it answers: a person waits for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.bench.startup import command_lines, train_piece

ROOT = Path(__file__).parents[3]
_REPORT = """
import atexit, sys
atexit.register(lambda: print("\\nLOADED", *sorted({name.partition(".")[0] for name in sys.modules})))
from orchestrator.cli.app import main
main()
"""
NEVER = {"torch", "torchvision", "ray", "mlflow", "scipy", "matplotlib", "jinja2", "timm", "psutil"}
NOT_LOADED = {
    "--help": NEVER | {"pandas", "pyarrow", "numpy", "PIL"},
    "plan": NEVER | {"pandas"},
    "status": NEVER | {"pandas"},  # PIL it may load: what is stale is seen by looking at the data
    "table": NEVER,
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    train_piece(folder)
    return folder


@pytest.mark.parametrize("command", NOT_LOADED)
def test_a_command_loads_nothing_heavy(command: str, storage: Path) -> None:
    line = [sys.executable, "-c", _REPORT, *command_lines(storage)[command]]
    told = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    loaded = set(told.rpartition("LOADED")[2].split())
    assert "typer" in loaded
    assert not loaded & NOT_LOADED[command]


def test_the_commands_that_are_measured_find_records(storage: Path) -> None:
    line = [sys.executable, "-c", _REPORT, *command_lines(storage)["status"]]
    assert "2 done" in subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True).stdout
