"""Where a number comes from, as pairs of title and text: for the terminal and the report alike. Knows no format.

Loads neither pandas nor torch.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.staleness import HereLike, judge
from trainer.reading import (
    read_accepted,
    read_manifests,
    read_segments,
    read_superseded,
    read_trial,
)
from trainer.records import (
    DamagedRecord,
    Finished,
    Judgement,
    Manifest,
    TrainRecord,
    trial_path,
)
from trainer.spec import canonical_json
from trainer.storage import Storage

if TYPE_CHECKING:
    from results.aggregate import CellSummary
    from results.compute import ComputedTable
    from results.frame import CellLike

Entries = tuple[tuple[str, str], ...]
_BARS = "▁▂▃▄▅▆▇█"
_MOST_POINTS = 12


@dataclass(frozen=True, slots=True)
class Command:
    """How a person names a cell and the folders of this machine on a command line.

    `cell` are the words after `mixgrid run` that choose the cell; `places` options such as --data, by default those of
    the attempt that ended the trial. Nothing of it is looked at here.
    """

    cell: tuple[str, ...] = ()
    places: tuple[str, ...] | None = None


def entries_of(
    storage: Storage,
    cell: CellLike,
    *,
    here: HereLike | None = None,
    command: Command = Command(),
    with_losses: bool = False,
) -> Entries:
    """All that storage says of the trial in a cell.

    Args:
        here: the machine that the trial is compared with; without one nothing is said of staleness.
        command: the words for the command that makes the number again.
        with_losses: read the training records too, a file for each checkpoint there was.
    """
    return tuple(_entries(storage, cell, here, command, with_losses))


def _entries(
    storage: Storage, cell: CellLike, here: HereLike | None, command: Command, with_losses: bool
) -> Iterator[tuple[str, str]]:
    state, result = read_trial(storage, cell.trial_id)
    manifests, damage = read_manifests(storage, cell.trial_id)
    yield "trial", cell.trial_id
    yield "state", f"{state.kind} {state.detail}".strip()
    if result is not None:
        if here is not None:
            yield from _freshness(storage, cell, result, here)
        yield from curves(result.evaluations)
        yield from _losses(storage, result) if with_losses else ()
    yield "spec", canonical_json(cell.spec)
    yield "folder", storage.locate(trial_path(cell.trial_id))
    if result is not None:
        yield from ((name, digest) for name, digest in result.digests.model_dump().items())
        yield "weights kept", result.weights_sha256 or "none"
        yield "trained for", f"{result.wall_seconds:.1f} s"
    yield from (("attempt", _attempt(manifest)) for manifest in manifests)
    yield from (("attempt", line) for line in damage)
    yield from _superseded(storage, cell.trial_id)
    last = next((m for m in manifests if result is not None and m.attempt == result.attempt), None)
    yield from _commands(storage, cell, command, last)


def _freshness(storage: Storage, cell: CellLike, result: Finished, here: HereLike) -> Iterator[tuple[str, str]]:
    found = judge(storage, cell.spec, result, here)
    if found.text:
        yield "stale", found.text
    if found.unchecked:
        yield "not here", f"{', '.join(found.unchecked)}: not checked"
    let_stand = {change.name for change in found.accepted}
    for entry in read_accepted(storage, result.trial_id):
        if entry.attempt == result.attempt and let_stand & entry.facts.keys():
            changed = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(entry.facts.items()))
            day = time.strftime("%Y-%m-%d", time.gmtime(entry.accepted))
            yield "accepted", f"{changed}, by {entry.by} on {day}: {entry.why}"


def _attempt(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    hosts = ", ".join(dict.fromkeys(manifest.rank_hosts)) or manifest.host
    return (
        f"{manifest.attempt} from step {manifest.resumed_from_step} on {hosts}, {manifest.device}, "
        f"{manifest.world_size} ranks, {manifest.threads} threads; {manifest.num_labeled} labelled and "
        f"{manifest.num_unlabeled} unlabelled images; {versions}"
    )


def _superseded(storage: Storage, trial_id: str) -> Iterator[tuple[str, str]]:
    results, damage = read_superseded(storage, trial_id)
    for old in results:
        last = ", ".join(
            f"{record.network} {_exact(record.mean_iou)}" for record in old.evaluations if record.step == old.num_steps
        )
        yield "set aside", f"a result of attempt {old.attempt} and code {old.digests.code[:12]}, mean IoU {last}"
    yield from (("set aside", line) for line in damage)


# --- curves -------------------------------------------------------------------------------------------------------


def curves(evaluations: Sequence[Judgement]) -> Entries:
    """The mean IoU of each network over the steps: the last, the best, a line of bars, and up to 12 points."""
    return tuple(
        (network, _curve([record for record in evaluations if record.network == network]))
        for network in ("student", "teacher")
        if any(record.network == network for record in evaluations)
    )


def _curve(records: Sequence[Judgement]) -> str:
    ordered = sorted(records, key=lambda record: record.step)
    last, judged = ordered[-1], [record for record in ordered if record.mean_iou is not None]
    best = max(judged, key=lambda record: (record.mean_iou or 0.0, -record.step), default=None)
    said = [f"mean IoU {_exact(last.mean_iou)} at step {last.step}, at {last.eval_size[0]} x {last.eval_size[1]}"]
    if last.num_undefined:
        said.append(f"{last.num_undefined} classes undefined")
    if best is not None and best.step != last.step:
        said.append(f"best {_exact(best.mean_iou)} at step {best.step}")
    if len(ordered) > 1:
        points = ", ".join(f"{record.step}: {_percent(record.mean_iou)}" for record in thinned(ordered))
        said.append(f"{sparkline([record.mean_iou for record in ordered])} in percent {points}")
    return "; ".join(said)


def thinned(records: Sequence[Judgement]) -> list[Judgement]:
    """At most 12 of the records at even distances, the last among them."""
    stride = math.ceil(len(records) / _MOST_POINTS)
    return list(records[::-1][::stride][::-1])


def sparkline(values: Sequence[float | None]) -> str:
    """Values as bars between the smallest and the largest of them; a gap where there is none."""
    defined = [value for value in values if value is not None]
    low, span = min(defined, default=0.0), max(defined, default=0.0) - min(defined, default=0.0)
    bars = [
        " " if value is None else _BARS[round((value - low) / span * (len(_BARS) - 1)) if span else 0]
        for value in values
    ]
    return "".join(bars)


def _losses(storage: Storage, result: Finished) -> Iterator[tuple[str, str]]:
    """Every scalar called a loss, from its first record to its last."""
    history: dict[str, list[float]] = {}
    with suppress(DamagedRecord):
        for record in read_segments(storage, result.trial_id, result.segments):
            if isinstance(record, TrainRecord):
                for name, value in record.scalars.items():
                    if name.endswith("_loss"):
                        history.setdefault(name, []).append(value)
    for name, values in history.items():
        shown = values[:: math.ceil(len(values) / 40)]
        yield "loss", f"{name} {values[0]:.4g} -> {values[-1]:.4g} {sparkline(shown)}"


def _exact(value: float | None) -> str:
    return "undefined" if value is None else repr(value)


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"


# --- commands -----------------------------------------------------------------------------------------------------


def _commands(storage: Storage, cell: CellLike, command: Command, last: Manifest | None) -> Iterator[tuple[str, str]]:
    """What makes the number again, in a storage of its own."""
    places = command.places if command.places is not None else _places_of(last)
    words = ("--storage", "reproduced", *places)
    if command.cell:
        yield "reproduce", shlex.join(("mixgrid", "run", *command.cell, *words, *_resources(last)))
    if last is None or last.world_size == 1:
        threads = () if last is None or last.threads == 1 else ("--threads", str(last.threads))
        yield "by hand", _by_hand(storage, cell, (*words, *threads))


def _by_hand(storage: Storage, cell: CellLike, words: Sequence[str]) -> str:
    path = trial_path(cell.trial_id, "spec.json")
    if storage.is_local:
        return shlex.join(("mixgrid", "train", storage.locate(path), *words))
    written = f"echo {shlex.quote(canonical_json(cell.spec))} > spec.json"
    return f"{written} && {shlex.join(('mixgrid', 'train', 'spec.json', *words))}"


def _places_of(manifest: Manifest | None) -> Iterable[str]:
    options = {} if manifest is None else manifest.options
    return [word for name in ("data", "weights") if options.get(name) for word in (f"--{name}", str(options[name]))]


def _resources(manifest: Manifest | None) -> Iterator[str]:
    """Ranks and threads, on which the last bits hang."""
    if manifest is not None and manifest.world_size > 1:
        yield from ("--workers", str(manifest.world_size))
    if manifest is not None and manifest.threads > 1:
        yield from ("--cpus-per-worker", str(manifest.threads))


# --- the cell of the table ----------------------------------------------------------------------------------------


def aggregate_entries(table: ComputedTable, row: str, label_fraction: str) -> Entries:
    """What the table prints for all seeds of a cell together, and what it is made of; nothing where it has no cell."""
    column = table.fractions.index(label_fraction)
    line = next((line for line in table.lines if line.label == row), None)
    cell = None if line is None else line.cells[column]
    if line is None or cell is None:
        return ()
    published = line.published[column]
    said = [
        ("printed", _printed(cell)),
        ("seeds", "; ".join(f"{seed}: {value!r}" for seed, value in cell.scores) or "none is done"),
        ("absent", "" if cell.is_complete else cell.state),
        ("stale", "; ".join(f"seed {seed}: {text}" for seed, text in cell.stale)),
        ("selection", f"{'+'.join(line.networks) or line.selection.network}, {_selected(line.selection.policy)}"),
        ("published", "" if published is None else f"{published.text} ({published.source})"),
    ]
    return tuple((title, text) for title, text in said if text)


def _printed(cell: CellSummary) -> str:
    mean = "undefined" if math.isnan(cell.mean) else repr(cell.mean)
    std = "none" if math.isnan(cell.std) else repr(cell.std)
    return f"mean {mean}, sample standard deviation (ddof 1) {std}, n = {cell.n} of {cell.expected}, in [0, 1]"


def _selected(policy: str) -> str:
    from results.aggregate import POLICIES, POLICY_WORDS

    return next(POLICY_WORDS[name] for name in POLICIES if name == policy)
