"""The commands of `mixgrid` by name; the module of one is imported when it is called, for help needs none of them."""

import atexit
import gc
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Listed(NamedTuple):
    """Where a command lies in this package, and the first sentence of its help.

    One that is brief reads and prints. What it makes stays to its end; to search it for garbage after every seven
    hundred new objects, as Python does, and once more at the end takes a fifth of its time.
    """

    module: str
    help: str
    is_brief: bool = False


_OBJECTS_OF_A_BRIEF_COMMAND = 100_000
LISTED = {
    "plan": Listed(
        "grid",
        "Show what a run would train, how long that may take, and what to know before spending time on it.",
        is_brief=True,
    ),
    "run": Listed(
        "grid", "Train what is missing of a table, here or on a cluster; run it again after anything at all to go on."
    ),
    "resume": Listed("grid", "The same as run, failed cells included."),
    "status": Listed(
        "grid", "Show the state of every cell, and the reason of each that is failed or half done.", is_brief=True
    ),
    "explain": Listed(
        "grid",
        "Say where a number comes from: trials, spec, digests, devices, attempts, and the command that makes it again.",
        is_brief=True,
    ),
    "logs": Listed(
        "grid",
        "Print the logs of a cell's attempts, oldest first, and why it failed if it did; or those of a submitted job.",
    ),
    "submit": Listed(
        "submitting", "Hand what is missing of a table to a cluster and return with the job's name; twice is once."
    ),
    "track": Listed("tracking", "Bring MLflow to what the storage says; any number of times, nothing comes twice."),
    "table": Listed(
        "output", "Print the table: mean ± std mIoU over seeds, marked where it is incomplete or stale.", is_brief=True
    ),
    "compare": Listed(
        "comparing",
        "Compare rows with the reference row, pair by pair and seed by seed, and cells with their published values.",
        is_brief=True,
    ),
    "report": Listed(
        "reporting",
        "Draw the table's report: one page that needs no network, plots as PDF and PNG, and the table's files.",
    ),
    "cancel": Listed(
        "keeping",
        "Ask whoever trains cells of a table to checkpoint and stop; what is safe stays, `run` goes on from it.",
    ),
    "verify": Listed(
        "keeping", "Derive every number of a table again from its records; exit code 1 if one does not hold."
    ),
    "prune": Listed(
        "keeping", "Remove what no number rests on: overtaken checkpoints, records nobody counts, drafts, dead drivers."
    ),
    "drill": Listed(
        "keeping", "Prove that nothing is lost: train a cell in peace, then again under SIGKILL, and compare every bit."
    ),
    "accept": Listed(
        "stale",
        "Let stale cells stand: note beside their results what has changed, by whom and why; further changes count.",
    ),
    "bundle": Listed(
        "bundling",
        "Put a table, its records, versions and the code that redraws it into one archive, to publish beside a paper.",
    ),
    "train": Listed(
        "trial", "Train one trial without Ray, alone or under torchrun or Slurm; the same numbers as in the grid."
    ),
    "doctor": Listed(
        "trial", "Say what this machine has: libraries, devices, data and weights, and where to put what is missing."
    ),
    "predict": Listed(
        "predicting", "Write label maps and coloured overlays of images, by the trained weights of one trial."
    ),
    "bench": Listed(
        "benching",
        "Measure masks, loader, evaluation, step, start-up and sharing, each beside a plain reference in the same run.",
    ),
    "preview": Listed("previewing", "Look at what training sees."),
    "data": Listed("data", "Draw, prepare and check images."),
}


class ListedGroup(TyperGroup):
    """A group whose commands are known by their listing until they are called."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.commands.update({name: TyperCommand(name=name, help=listed.help) for name, listed in LISTED.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As every group; the command that is named is imported first."""
        if args[0] in LISTED:
            if LISTED[args[0]].is_brief:
                gc.set_threshold(_OBJECTS_OF_A_BRIEF_COMMAND)
                atexit.register(gc.freeze)
            self.commands[args[0]] = imported(args[0])
        return super().resolve_command(ctx, args)


@cache
def imported(name: str) -> Any:
    """A command as its module declares it."""
    module = typer.Typer()
    import_module(f"orchestrator.cli.{LISTED[name].module}").register(module)
    return typer.main.get_group(module).commands[name]
