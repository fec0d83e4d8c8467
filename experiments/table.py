"""A comparison table as a value: rows x fractions x seeds in a frame. The table is the spec; the cells follow from it.

Loads neither torch nor ray.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from trainer.spec import (
    SGD,
    Cityscapes,
    Dataset,
    DeepLabV2,
    Evaluation,
    InitialWeights,
    Method,
    Network,
    Normalization,
    Optimizer,
    Part,
    Poly,
    Schedule,
    Seed,
    TrialSpec,
    View,
    parse_fraction,
    parse_json,
)


class TableError(ValueError):
    """What is wrong with a table, a selection or a changed field, and where to change it."""


MOST_SEEDS = 10_000
_IDENTITY = ("label_fraction", "seed")
_PLACE = "that is a cell's place, which the table's fractions and seeds say; --fractions and --seeds choose among them"
_OF_MANY_KINDS = ("dataset", "network", "method", "mask", "optimizer", "schedule")


def is_a_line(text: str) -> str:
    """Give a text back. Raises: ValueError unless a person can see all of it, on one line."""
    if not text.strip() or not text.isprintable():
        raise ValueError("visible text on one line is wanted")
    return text


TextLine = Annotated[str, Field(max_length=200), AfterValidator(is_a_line)]
TableName = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A table's files lie in a folder of this name."""
FieldPath = Annotated[str, Field(min_length=1)]
Share = Annotated[Fraction, Field(gt=0, le=1)]


class Frame(Part):
    """What is equal for all rows of a controlled table, and how its numbers are chosen.

    `selection`: "last" is the evaluation after the last step, "best" the best of all evaluations on the reported
    images (optimistic; named in every heading). `reported_network` is judged in the table; both are recorded.
    """

    dataset: Dataset = Cityscapes()
    view: View = View()
    network: Network = DeepLabV2()
    initial_weights: InitialWeights = "coco"
    normalization: Normalization | None = None
    optimizer: Optimizer = SGD()
    schedule: Schedule = Poly()
    num_steps: int = 40_000
    labeled_batch: int = 2
    unlabeled_batch: int = 2
    unlabeled_pool: Literal["remainder", "all"] = "remainder"
    precision: Literal["float32", "tf32", "bf16", "float64"] = "float32"
    evaluation: Evaluation = Evaluation()
    selection: Literal["last", "best"] = "last"
    reported_network: Literal["student", "teacher"] = "student"

    def spec_fields(self) -> dict[str, Any]:
        """The frame's part of every trial's spec."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in TrialSpec.model_fields}


class Deviation(NamedTuple):
    """A field that a row has otherwise than the frame, and where it is written that it is so."""

    path: str
    value: Any
    source: str = ""


class DeviationAt(NamedTuple):
    """A deviation at one label fraction only."""

    fraction: Fraction
    path: str
    value: Any
    source: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a label, a method, and deviations from the frame as (dotted field, value[, source]).

    `group` separates blocks of rows by a rule. `fractions` are the row's own, where it has not all of the table's;
    `deviations_at` are deviations of one fraction only, as (fraction, dotted field, value[, source]). `selection` and
    `reported_network` are the frame's unless the row has its own. An optional row has cells only where it is named.
    """

    label: TextLine
    method: Method
    group: int = 1
    deviations: tuple[tuple[FieldPath, Any] | tuple[FieldPath, Any, str], ...] = ()
    fractions: tuple[Share, ...] | None = None
    selection: Literal["last", "best"] | None = None
    reported_network: Literal["student", "teacher"] | None = None
    deviations_at: tuple[tuple[Share, FieldPath, Any] | tuple[Share, FieldPath, Any, str], ...] = ()
    is_optional: bool = False

    def __post_init__(self) -> None:
        refuse_wrong_kinds(self, f"row {self.label!r}")
        nowhere = {str(given[0]) for given in self.deviations_at if self.fractions and given[0] not in self.fractions}
        if nowhere:
            raise TableError(f"row {self.label!r} deviates at {', '.join(sorted(nowhere))}, where it has no cells")

    def declared_at(self, fraction: Fraction) -> tuple[Deviation, ...]:
        """The row's deviations at a fraction; what is said of the fraction alone comes last and so wins."""
        there = (Deviation(*words) for given, *words in self.deviations_at if given == fraction)
        return (*(Deviation(*given) for given in self.deviations), *there)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trial in its place in a table. `trial_id` is the identity of its spec, `known_id` that where it is known."""

    row: str
    label_fraction: Fraction
    seed: int
    spec: TrialSpec
    trial_id: str = field(init=False)
    known_id: InitVar[str] = ""

    def __post_init__(self, known_id: str) -> None:
        object.__setattr__(self, "trial_id", known_id or self.spec.trial_id)

    @property
    def name(self) -> str:
        """What a person types to name it: row@fraction#seed."""
        return f"{self.row}@{self.label_fraction}#{self.seed}"


@dataclass(frozen=True)  # without slots: its cells are made once
class Table:
    """Rows x fractions x seeds in a frame.

    `published` names the paper's values to print beside ours; `reference_row` is the row that others are compared
    with; a demonstration says so wherever it is printed. `overrides` are fields changed by `--set`. `frames`: the rows
    of a "controlled" table differ by their methods alone; those of one "as_published" deviate as their sources do.
    """

    name: TableName
    title: TextLine
    frame: Frame
    rows: tuple[Row, ...]
    fractions: tuple[Share, ...]
    seeds: tuple[Seed, ...]
    published: str | None = None
    reference_row: str | None = None
    is_demonstration: bool = False
    overrides: tuple[tuple[FieldPath, Any], ...] = ()
    frames: Literal["controlled", "as_published"] = "controlled"

    def __post_init__(self) -> None:
        refuse_wrong_kinds(self, f"table {self.name!r}")
        labels = [row.label for row in self.rows]
        if len({label.casefold() for label in labels}) != len(labels):
            raise TableError(f"table {self.name} has two rows of one label: {', '.join(labels)}")
        if len(set(self.seeds)) != len(self.seeds) or len(set(self.fractions)) != len(self.fractions):
            raise TableError(f"table {self.name} has a seed or a fraction twice: its cells would count twice")
        if not any(self.fractions_of(row) for row in self.included_rows) or not self.seeds:
            raise TableError(f"table {self.name} is empty: rows, fractions and seeds are all wanted")

    @property
    def included_rows(self) -> tuple[Row, ...]:
        """The rows that have cells: all but the optional ones that nobody named."""
        return tuple(row for row in self.rows if not row.is_optional)

    @property
    def optional_rows(self) -> tuple[Row, ...]:
        """The rows that `--rows` would have to name."""
        return tuple(row for row in self.rows if row.is_optional)

    def cells(self) -> tuple[Cell, ...]:
        """Every trial in its place: row by row, fraction by fraction, seed by seed.

        A row that wants unlabelled images has no cell at fraction 1. Raises: TableError naming the field.
        """
        return self._cells

    @functools.cached_property
    def _cells(self) -> tuple[Cell, ...]:
        return tuple(
            Cell(row.label, fraction, spec.seed, spec, trial_id)
            for row in self.included_rows
            for fraction in self.fractions_of(row)
            for spec, trial_id in self._spec(row, fraction).with_seeds(self.seeds)
        )

    def fractions_of(self, row: Row) -> tuple[Fraction, ...]:
        """The table's fractions at which a row has cells."""
        return _fractions_of(row, self.fractions)

    def _spec(self, row: Row, fraction: Fraction) -> TrialSpec:
        """What all trials of a row at a fraction are, but for their seeds."""
        fields = {**self.frame.spec_fields(), "method": row.method, "label_fraction": fraction}
        content = TrialSpec.model_construct(**fields).model_dump(mode="json")
        deviations = row.declared_at(fraction)
        for path in (*(deviation.path for deviation in deviations), *(path for path, _ in self.overrides)):
            if path in _IDENTITY:
                raise TableError(f"table {self.name}, row {row.label!r} changes {path}: {_PLACE}")
        for deviation in deviations:
            if not change_field(content, deviation.path, deviation.value):
                raise TableError(
                    f"table {self.name}, row {row.label!r} deviates in {deviation.path}, but has no such field"
                )
        for path, value in self.overrides:
            change_field(content, path, value)
        try:
            return TrialSpec.model_validate(content)
        except ValidationError as error:
            raise TableError(f"table {self.name}, row {row.label!r}, fraction {fraction}: {readable(error)}") from error

    def changed(self, settings: Sequence[str]) -> "Table":
        """Apply `--set field=value` words to every cell that has the field.

        Raises: TableError where a word has no "=", or where no cell has the field (with the nearest names).
        """
        overrides = tuple(parse_setting(word) for word in settings)
        samples = [self._spec(row, self.fractions_of(row)[0]) for row in self.rows if self.fractions_of(row)]
        for position, (path, _) in enumerate(overrides):
            known = self._known_paths(samples, overrides[:position])
            if path in _IDENTITY:
                raise TableError(f"--set {path}: {_PLACE}")
            if path not in known:
                near = get_close_matches(path, sorted(known), n=3, cutoff=0.4)
                hint = f"; near it are {', '.join(near)}" if near else ""
                raise TableError(f"--set {clipped(path)}: no cell of table {self.name} has such a field{hint}")
        table = replace(self, overrides=self.overrides + overrides)
        table.cells()
        return table

    @staticmethod
    def _known_paths(samples: Sequence[TrialSpec], earlier: Sequence[tuple[str, Any]]) -> set[str]:
        paths: set[str] = set()
        for sample in samples:
            content = sample.model_dump(mode="json")
            for path, value in earlier:
                change_field(content, path, value)
            try:
                paths |= set(field_paths(TrialSpec.model_validate(content)))
            except ValidationError:  # an earlier word alone may not be valid yet; a later one may mend it
                paths |= set(field_paths(sample))
        return paths - set(_IDENTITY)

    def selected(self, rows: str | None = None, fractions: str | None = None, seeds: str | None = None) -> "Table":
        """Keep the named rows (labels, by commas), fractions ("1/8,1/4") and seeds ("0-4" or "0,2").

        An optional row that is named is one like any other; "all" names every row. Seeds may go beyond the table's own;
        rows and fractions may not. Raises: TableError saying what there is.
        """
        chosen = self.fractions if fractions is None else _chosen_fractions(self, fractions)
        some = self.rows if rows is None else _chosen_rows(self, rows)
        kept = tuple(row for row in some if _fractions_of(row, chosen))
        if all(row.is_optional for row in kept):
            raise TableError(f"the selection leaves no cell of table {self.name}")
        return replace(self, rows=kept, fractions=chosen, seeds=self.seeds if seeds is None else parse_seeds(seeds))


def _fractions_of(row: Row, fractions: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    own = fractions if row.fractions is None else tuple(f for f in fractions if f in row.fractions)
    return tuple(f for f in own if not (f == 1 and row.method.wants_unlabeled))


def _chosen_rows(table: Table, words: str) -> tuple[Row, ...]:
    wanted = [word.strip().casefold() for word in words.split(",") if word.strip()]
    by_label = {row.label.casefold(): row for row in table.rows}
    if wanted == ["all"] and "all" not in by_label:
        wanted = list(by_label)
    unknown = [word for word in wanted if word not in by_label]
    if unknown or not wanted:
        raise TableError(
            f"--rows {clipped(words)!r}: table {table.name} has the rows {', '.join(row.label for row in table.rows)}"
        )
    return tuple(replace(row, is_optional=False) for row in table.rows if row.label.casefold() in wanted)


def _chosen_fractions(table: Table, words: str) -> tuple[Fraction, ...]:
    try:
        wanted = {parse_fraction(word) for word in words.split(",")}
    except ValueError as error:
        raise TableError(f"--fractions {clipped(words)!r}: {error}") from error
    if not wanted <= set(table.fractions):
        there = ", ".join(str(fraction) for fraction in table.fractions)
        raise TableError(f"--fractions {clipped(words)!r}: table {table.name} has the fractions {there}")
    return tuple(fraction for fraction in table.fractions if fraction in wanted)


def parse_seeds(words: str) -> tuple[int, ...]:
    """Read "0-4", "0,2" or "0-2,7" as seeds in rising order. Raises: TableError."""
    seeds: set[int] = set()
    for word in words.split(","):
        first, dash, last = word.strip().partition("-")
        if not all(_is_number(number) for number in (first, last if dash else first)):
            raise TableError(f"--seeds {clipped(words)!r}: give whole numbers such as 0,2 or a range such as 0-4")
        low, high = int(first), int(last if dash else first)
        if low > high or high >= 2**32 or high - low + len(seeds) >= MOST_SEEDS:
            raise TableError(
                f"--seeds {clipped(words)!r}: a range rises, within 0..{2**32 - 1}, and {MOST_SEEDS} seeds are the most"
            )
        seeds |= set(range(low, high + 1))
    return tuple(sorted(seeds))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def parse_setting(word: str) -> tuple[str, Any]:
    """Read "field.name=value"; the value is JSON where it can be read so, else text; @FILE reads a list of names.

    Raises: TableError.
    """
    path, equals, text = word.partition("=")
    if not equals or not path.strip():
        raise TableError(
            f"--set {clipped(word)!r}: give field=value, such as num_steps=600 or method.supervised_start=30"
        )
    if text.startswith("@"):
        from trainer.data.splits import read_name_list  # it knows image files, and what reads them

        try:
            return path.strip(), list(read_name_list(Path(text[1:])))
        except ValueError as error:
            raise TableError(f"--set {path}: {error}") from error
    try:
        return path.strip(), parse_json(text)
    except ValueError:
        return path.strip(), text


def change_field(content: dict[str, Any], path: str, value: Any) -> bool:
    """Change a dotted field in a dumped spec, where it exists; a new `kind` starts that part from its defaults.

    Returns: whether it exists.
    """
    *parents, last = path.split(".")
    for position, parent in enumerate(parents):
        child = content.get(parent)
        if not isinstance(child, dict):
            return False
        if position == len(parents) - 1 and last == "kind" and child.get("kind") != value:
            content[parent] = _defaults_of(value)
            return True
        content = child
    if last in content:
        content[last] = value
    return last in content


def _defaults_of(kind: Any) -> dict[str, Any]:
    """The fields of the part of that kind at their defaults; an unknown kind is left for validation to refuse."""
    for part in _parts_below(Part):
        field = part.model_fields.get("kind")
        if field is not None and field.default == kind:
            content: dict[str, Any] = part.model_construct().model_dump(mode="json")
            return content
    return {"kind": kind}


def _parts_below(part: type[Part]) -> Iterator[type[Part]]:
    for child in part.__subclasses__():
        yield child
        yield from _parts_below(child)


def field_paths(part: BaseModel, prefix: str = "") -> Iterable[str]:
    """The dotted names of all fields of a part, at every depth."""
    for name in type(part).model_fields:
        yield prefix + name
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield from field_paths(value, f"{prefix}{name}.")


def readable(error: ValidationError) -> str:
    """A validation error in one line: field, what was given, what is wrong."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(_as_set(item["loc"])) or "the spec"
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"{place}: {message}" + (f" (given: {_shown(item['input'])})" if item["loc"] else ""))
    return clipped("; ".join(parts), 2000)


def _as_set(place: Sequence[int | str]) -> Iterator[str]:
    """The words of a place as `--set` takes them: without the kind that pydantic puts behind a field of many kinds."""
    before = ""
    for word in map(str, place):
        if before not in _OF_MANY_KINDS:
            yield word
        before = word


def clipped(text: str, length: int = 200) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _shown(value: Any) -> str:
    try:
        return clipped(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list …
        return f"a {type(value).__name__} too large to print"


def refuse_wrong_kinds(value: "Row | Table", name: str) -> None:
    """Raises: TableError naming the first field of a row or table that is not what its type says."""
    kind: Any = type(value)
    for path, adapter in _adapters(kind).items():
        given = getattr(value, path)
        try:
            read = adapter.validate_python(given, strict=True)
        except ValidationError as error:
            raise TableError(f"{clipped(name)}, {path}: {readable(error).removeprefix('the spec: ')}") from error
        if read != given:  # a dictionary is read as the part it describes, but is none
            raise TableError(f"{clipped(name)}, {path}: give {_shown(read)} itself, not {_shown(given)}")


@functools.cache
def _adapters(kind: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind)}


# --- finding a table ----------------------------------------------------------------------------------------------


def find_table(word: str, tables: Mapping[str, str]) -> Table:
    """A table by its name, or from a Python file that holds one (`file.py` or `file.py:NAME` where it holds several).

    Args:
        word: what was given.
        tables: names of known tables and "module:NAME" of where they are.
    Raises: TableError saying what there is.
    """
    if word in tables:
        module_name, _, attribute = tables[word].partition(":")
        table = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(table, Table)
        return table
    path, colon, attribute = word.rpartition(":")
    if not colon:
        path, attribute = word, ""
    if not path.endswith(".py"):
        near = get_close_matches(word, sorted(tables), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TableError(
            f"no table is called {clipped(word)!r}{hint}: known are {', '.join(sorted(tables))}, or give a Python file"
        )
    return _table_in_file(Path(path), attribute)


def _table_in_file(path: Path, attribute: str) -> Table:
    if not path.is_file():
        raise TableError(f"there is no file {path} to read a table from")
    location = importlib.util.spec_from_file_location(f"mixgrid_table_{path.stem}", path)
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    sys.modules[location.name] = module
    try:
        location.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TableError(f"{path} cannot be read as a table: {type(error).__name__}: {error}") from error
    found = {name: value for name, value in vars(module).items() if isinstance(value, Table)}
    if attribute:
        found = {name: value for name, value in found.items() if name == attribute}
    if len(found) != 1:
        raise TableError(
            f"{path} holds {len(found)} tables{f' called {attribute}' if attribute else ''}; "
            f"give {path}:NAME with one of {', '.join(found) or 'its Table values'}"
        )
    return next(iter(found.values()))
