"""How long commands take that a person waits for, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments import TABLES
from experiments.table import Table, find_table
from orchestrator.bench.measuring import Call, Figure, Setting, ratio_of, spread_of, take_turns
from orchestrator.bench.rooms import workspace
from trainer.host import NoHost
from trainer.run import run_trial
from trainer.spec import RunOptions

INTERPRETER = "an empty Python"
_MIXGRID = "from orchestrator.cli.app import main; main()"
_ROOT = Path(__file__).parents[2]
# A piece of the demonstration that trains in a second or two.
SETTINGS = ("num_steps=2", "network.width=4", "method.supervised_start=1", "dataset.num_train=16", "dataset.num_eval=4")
SELECTED = {"rows": "Supervised,ComplexMix", "fractions": "1/4", "seeds": "0"}


def measure_startup(setting: Setting) -> list[Figure]:
    """Seconds of commands from their start to their end, on a storage with a few records."""
    with workspace() as folder:
        train_piece(folder)
        lines = {name: [sys.executable, "-c", _MIXGRID, *words] for name, words in command_lines(folder).items()}
        lines[INTERPRETER] = [sys.executable, "-c", "pass"]
        seconds = take_turns({name: _process(line) for name, line in lines.items()}, setting)
    return [
        Figure("startup", name, spread_of(taken), INTERPRETER, ratio_of(taken, seconds[INTERPRETER]), _target(name))
        for name, taken in seconds.items()
        if name != INTERPRETER
    ]


def _target(name: str) -> str:
    return "at most 0.5 s" if name == "--help" else "at most 1.5 s"


def piece() -> Table:
    """A small piece of the demonstration."""
    return find_table("demo", TABLES).changed(list(SETTINGS)).selected(**SELECTED)


def train_piece(folder: Path) -> None:
    """Leave records of every cell of the piece in a storage below `folder`."""
    places = {name: str(folder / name) for name in ("storage", "data", "cache")}
    for cell in piece().cells():
        outcome = run_trial(cell.spec, RunOptions(**places), NoHost())
        assert outcome.kind == "done", outcome


def command_lines(folder: Path) -> Mapping[str, list[str]]:
    """The words of each command that is measured."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    selected = [word for name, value in SELECTED.items() for word in (f"--{name}", value)]
    on_piece = ["demo", *settings, *selected, "--storage", str(folder / "storage")]
    return {
        "--help": ["--help"],
        "plan": ["plan", *on_piece, "--data", str(folder / "data")],
        "status": ["status", *on_piece],
        "table": ["table", *on_piece],
    }


def _process(line: list[str]) -> Call:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
    return lambda: subprocess.run(line, check=True, capture_output=True, env=environment)
