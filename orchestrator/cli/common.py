"""What every command shares: the options that name a table's part and places, and how errors reach a person."""

import functools
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter

from experiments import TABLES
from experiments.table import Cell, Table, TableError, find_table
from trainer.spec import Compile, ImagesOnDevice, RunOptions
from trainer.storage import Storage

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
    str,
    typer.Option(
        "--data",
        envvar="MIXGRID_DATA",
        help="The folder that holds cityscapes/, camvid/ and weights/, or the place that `data publish` filled.",
    ),
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
        chosen = self.settled(storage)
        assert chosen.table is not None
        table = find_table(chosen.table, TABLES).changed(chosen.settings or [])
        return table.selected(chosen.rows, chosen.fractions, chosen.seeds)

    def settled(self, storage: Storage) -> "Selection":
        """These words; where they name no table, over those of the last run. Raises: TableError."""
        if self.table is not None:
            return self
        last = last_selection(storage)
        return Selection(
            last.table,
            [*(last.settings or []), *(self.settings or [])],
            self.rows or last.rows,
            self.fractions or last.fractions,
            self.seeds or last.seeds,
        )

    @property
    def words(self) -> list[str]:
        """The words of a command line that choose this part of the table."""
        chosen = {"--rows": self.rows, "--fractions": self.fractions, "--seeds": self.seeds}
        given = {option: words for option, words in chosen.items() if words is not None}
        return [*self._changed(), *(word for pair in given.items() for word in pair)]

    def words_for(self, cell: Cell) -> list[str]:
        """The words of a command line that choose one cell of the table."""
        place = ["--rows", cell.row, "--fractions", str(cell.label_fraction), "--seeds", str(cell.seed)]
        return [*self._changed(), *place]

    def _changed(self) -> list[str]:
        return [str(self.table), *(word for setting in self.settings or [] for word in ("--set", setting))]

    def remember(self, storage: Storage) -> None:
        """Note what was run, for commands that name no table."""
        if self.table is not None:
            storage.write(
                _LAST_RUN, json.dumps({**asdict(self), "table": absolute_table(self.table)}, indent=1).encode()
            )


def absolute_table(word: str) -> str:
    """A table's file as any folder finds it; a name as it is."""
    path, suffix, name = word.rpartition(".py")
    return f"{Path(path).absolute()}{suffix}{name}" if suffix else word


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a command was pointed at: a part of a table on a storage."""

    selection: Selection
    storage: Storage

    @property
    def table(self) -> Table:
        """The table, changed and selected. Raises: TableError."""
        return self.selection.resolve(self.storage)


@dataclass(frozen=True, slots=True)
class Places:
    """Where this machine has what a trial is made of, for commands that compare it with what trials were made of."""

    data: str = "data"
    cache: str | None = None
    weights: str | None = None

    @classmethod
    def of_environment(cls) -> "Places":
        """What the options' variables say, for whoever has no options."""
        names = ("MIXGRID_CACHE", "MIXGRID_WEIGHTS")
        return cls(os.environ.get("MIXGRID_DATA") or "data", *(os.environ.get(name) or None for name in names))

    @classmethod
    def of(cls, options: RunOptions) -> "Places":
        """Where trials with these options look."""
        return cls(options.data, options.cache, options.weights)


def _selection_options(
    table: TableWord = None,
    settings: Settings = None,
    rows: Rows = None,
    fractions: Fractions = None,
    seeds: Seeds = None,
    storage: StorageUrl = "runs",
) -> Chosen:
    return Chosen(Selection(table, settings, rows, fractions, seeds), Storage(storage))


def _place_options(data: DataFolder = "data", cache: CacheFolder = None, weights: WeightsFolder = None) -> Places:
    return Places(data, cache, weights)


def _trial_options(
    data: DataFolder = "data",
    cache: CacheFolder = None,
    weights: WeightsFolder = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where trials compute.")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: by the trial's length.")] = 0,
    log_every: Annotated[int, typer.Option(help="Steps between training records; 0: by the trial's length.")] = 0,
    keep: Annotated[
        Literal["weights", "checkpoints", "nothing"], typer.Option(help="What stays of a trial that is done.")
    ] = "weights",
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Go on with half-done trials though code or data changed.")
    ] = False,
    hang_seconds: Annotated[float, typer.Option(help="End and retry a process without a step for so long.")] = 1800.0,
    progress_seconds: Annotated[float, typer.Option(hidden=True, help="How often a trial says how far it is.")] = 10.0,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Save memory, take time; the numbers stay.")
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits on every run on one kind of GPU; takes time.")
    ] = False,
    previews: Annotated[
        bool, typer.Option("--previews/--no-previews", help="Leave a small picture at every evaluation.")
    ] = True,
    compile_: Annotated[
        Compile, typer.Option("--compile", help="Compile student and teacher; reduce-overhead: CUDA graphs too.")
    ] = "off",
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Convolutions in the layout that most devices compute in.")
    ] = False,
    images_on_device: Annotated[
        ImagesOnDevice, typer.Option(help="Hold all training images on the device; auto: where they fit.")
    ] = "never",
) -> RunOptions:
    return RunOptions(
        data=data,
        cache=cache,
        weights=weights,
        device=device,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        keep=keep,
        accept_change=accept_change,
        hang_seconds=hang_seconds,
        progress_seconds=progress_seconds,
        activation_checkpointing=activation_checkpointing,
        deterministic=deterministic,
        previews=previews,
        compile=compile_,
        channels_last=channels_last,
        images_on_device=images_on_device,
    )


Command = Callable[..., None]


def making(argument: str, make: Callable[..., Any]) -> Callable[[Command], Command]:
    """Give a command the options of `make`; what it makes of them becomes one argument of the command.

    So an option is declared once and means the same everywhere.
    """
    shared = inspect.signature(make).parameters

    def give(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != argument]

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            made = make(**{name: given.pop(name) for name in shared})
            command(**{argument: made}, **given)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*shared.values(), *own)]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_options

    return give


on_table = making("chosen", _selection_options)
"""A command on a part of a table: its argument `chosen` is what was chosen."""

that_compares = making("places", _place_options)
"""A command that tells what is stale: its argument `places` is where to look for what is here now."""

that_trains = making("options", _trial_options)
"""A command that trains: its argument `options` is those of trials, their storage still to be named."""


def last_selection(storage: Storage) -> Selection:
    """What was last run on a storage. Raises: TableError where nothing was."""
    try:
        last = TypeAdapter(Selection).validate_json(storage.read(_LAST_RUN), strict=True)
        if last.table is None:
            raise ValueError("it names no table")
        return last
    except (FileNotFoundError, ValueError) as error:
        known = ", ".join(sorted(TABLES))
        raise TableError(f"no table was run in {storage.name} yet: name one ({known}, or a Python file)") from error


def outputs_folder(storage: Storage, table: Table) -> Path:
    """Where a run leaves a table's files: beside a local storage's trials, else in the current folder."""
    return Path(storage.locate("tables")) / table.name if storage.is_local else Path("tables") / table.name


def is_debugging() -> bool:
    """Whether errors come with their trace (`--debug`)."""
    return os.environ.get("MIXGRID_DEBUG") == "1"
