"""What every command shares: the options that name a table's part and places, and how errors reach a person."""

import functools
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import TABLES
from experiments.table import Table, TableError, find_table
from trainer.records import Storage

TableWord = Annotated[
    str | None,
    typer.Argument(metavar="TABLE", help="A table's name, or a Python file. Without it: the last one run here."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Change a field of every cell: --set num_steps=600.")]
Rows = Annotated[str | None, typer.Option(help="Only these rows, by label: --rows Supervised,ComplexMix.")]
Fractions = Annotated[str | None, typer.Option(help="Only these label fractions: --fractions 1/8,1/4.")]
Seeds = Annotated[str | None, typer.Option(help="These seeds: --seeds 0-4 or --seeds 0,2.")]
StorageUrl = Annotated[
    str,
    typer.Option("--storage", envvar="MIXGRID_STORAGE", help="Where trials leave their records: a folder or s3://…"),
]
DataFolder = Annotated[
    str, typer.Option("--data", envvar="MIXGRID_DATA", help="The folder that holds cityscapes/, camvid/ and weights/.")
]
CacheFolder = Annotated[
    str | None, typer.Option("--cache", envvar="MIXGRID_CACHE", help="Where images at training size are kept.")
]
WeightsFolder = Annotated[
    str | None, typer.Option("--weights", envvar="MIXGRID_WEIGHTS", help="Where initial weights lie.")
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow; default: SQLite in a local storage."),
]

_LAST_RUN = "last_run.json"


@dataclass(frozen=True, slots=True)
class Selection:
    """The words with which a part of a table is chosen and changed."""

    table: str | None
    settings: list[str] | None
    rows: str | None
    fractions: str | None
    seeds: str | None

    def resolve(self, storage: Storage) -> Table:
        """The table, changed and selected; without a table the last run's, with what was chosen then.

        Raises: TableError.
        """
        chosen = self if self.table is not None else self._over_last(storage)
        assert chosen.table is not None
        table = find_table(chosen.table, TABLES).changed(chosen.settings or [])
        return table.selected(chosen.rows, chosen.fractions, chosen.seeds)

    def _over_last(self, storage: Storage) -> "Selection":
        last = last_selection(storage)
        return Selection(
            last.table,
            [*(last.settings or []), *(self.settings or [])],
            self.rows or last.rows,
            self.fractions or last.fractions,
            self.seeds or last.seeds,
        )

    def remember(self, storage: Storage) -> None:
        """Note what was run, for commands that name no table."""
        if self.table is not None:
            path, colon, name = self.table.rpartition(".py")
            word = f"{Path(path).absolute()}{colon}{name}" if colon else self.table
            storage.write(_LAST_RUN, json.dumps({**asdict(self), "table": word}, indent=1).encode())


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a command was pointed at: a part of a table on a storage."""

    selection: Selection
    storage: Storage

    @property
    def table(self) -> Table:
        """The table, changed and selected. Raises: TableError."""
        return self.selection.resolve(self.storage)


def _selection_options(
    table: TableWord = None,
    settings: Settings = None,
    rows: Rows = None,
    fractions: Fractions = None,
    seeds: Seeds = None,
    storage: StorageUrl = "runs",
) -> Chosen:
    return Chosen(Selection(table, settings, rows, fractions, seeds), Storage(storage))


def on_table(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that every command on a table has; its first argument becomes what they chose.

    So `--set`, `--rows`, `--fractions` and `--seeds` are declared once and mean the same everywhere.
    """
    shared = inspect.signature(_selection_options)
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def with_selection(**given: Any) -> None:
        chosen = _selection_options(**{name: given.pop(name) for name in shared.parameters})
        command(chosen, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*shared.parameters.values(), *own)]
    with_selection.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_selection.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_selection


def last_selection(storage: Storage) -> Selection:
    """What was last run on a storage. Raises: TableError where nothing was."""
    try:
        return Selection(**json.loads(storage.read(_LAST_RUN)))
    except (FileNotFoundError, ValueError, TypeError) as error:
        known = ", ".join(sorted(TABLES))
        raise TableError(f"no table was run in {storage.url} yet: name one ({known}, or a Python file)") from error


def outputs_folder(storage: Storage, table: Table) -> Path:
    """Where a run leaves a table's files: beside a local storage's trials, else in the current folder."""
    return Path(storage.locate("tables")) / table.name if storage.is_local else Path("tables") / table.name


def is_debugging() -> bool:
    """Whether errors come with their trace (`--debug`)."""
    return os.environ.get("MIXGRID_DEBUG") == "1"
