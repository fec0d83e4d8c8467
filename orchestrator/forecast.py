"""How long what is missing of a table would take: from finished cells where there are any, else from FLOP.

Torch-free.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.cost import ACHIEVED_FLOPS, trial_flop
from orchestrator.plan import PlannedCell
from trainer.records import DamagedRecord, Manifest, Storage, attempt_path
from trainer.spec import DeepLabV2, TrialSpec

_UNFINISHED = ("missing", "partial", "running")
ImageCounts = Callable[[TrialSpec], tuple[int, int]]
"""The numbers of training and evaluation images of a spec."""


@dataclass(frozen=True, slots=True)
class RowForecast:
    """What is missing of a row: trials, FLOP (None: network unknown), device-hours as (low, high), and why so many."""

    row: str
    num_trials: int
    flop: float | None
    hours: tuple[float, float] | None
    basis: str


def forecast(planned: Sequence[PlannedCell], storage: Storage, counts: ImageCounts) -> list[RowForecast]:
    """A line for each row of which something is missing; a trial that stands in two rows counts in the first."""
    seen: set[str] = set()
    lines = []
    for row in dict.fromkeys(item.cell.row for item in planned):
        cells = [item for item in planned if item.cell.row == row]
        missing = {item.cell.trial_id: item for item in cells if item.state in _UNFINISHED}
        wanted = [item for trial_id, item in missing.items() if trial_id not in seen]
        seen |= set(missing)
        if wanted:
            lines.append(
                _of_row(row, wanted, [item for item in cells if item.wall_seconds is not None], storage, counts)
            )
    return lines


def _of_row(
    row: str, wanted: Sequence[PlannedCell], done: Sequence[PlannedCell], storage: Storage, counts: ImageCounts
) -> RowForecast:
    flop = _flop(wanted, counts)
    measured = _seconds_per_step(done, storage)
    if measured is not None:
        seconds, basis = measured
        steps = sum(item.cell.spec.num_steps - item.trial.step for item in wanted)
        return RowForecast(row, len(wanted), flop, (seconds * steps / 3600,) * 2, basis)
    if flop is None or not all(isinstance(item.cell.spec.network, DeepLabV2) for item in wanted):
        return RowForecast(row, len(wanted), flop, None, "unknown until a cell is done")
    slow, fast = ACHIEVED_FLOPS
    hours = (flop / fast / 3600, flop / slow / 3600)
    return RowForecast(row, len(wanted), flop, hours, "FLOP at the assumed rate")


def _flop(wanted: Iterable[PlannedCell], counts: ImageCounts) -> float | None:
    total = 0.0
    for item in wanted:
        num_train, num_eval = counts(item.cell.spec)
        flop = trial_flop(item.cell.spec, num_train=num_train, num_eval=num_eval, first_step=item.trial.step)
        if flop is None:
            return None
        total += flop
    return total


def _seconds_per_step(done: Sequence[PlannedCell], storage: Storage) -> tuple[float, str] | None:
    """Median device-seconds of a step over the finished cells on the commonest device, and what to call them."""
    found: dict[str, list[float]] = {}
    for item in done:
        device, num_devices = _device(item, storage)
        assert item.wall_seconds is not None
        found.setdefault(device, []).append(item.wall_seconds * num_devices / item.cell.spec.num_steps)
    if not found:
        return None
    device, _ = Counter({name: len(times) for name, times in found.items()}).most_common(1)[0]
    cells = "1 finished cell" if len(found[device]) == 1 else f"the median of {len(found[device])} finished cells"
    return median(found[device]), f"{cells} on {device}"


def _device(item: PlannedCell, storage: Storage) -> tuple[str, int]:
    assert item.attempt is not None
    try:
        manifest = Manifest.find(storage, attempt_path(item.cell.trial_id, item.attempt, "manifest.json"))
    except DamagedRecord:
        manifest = None
    return ("an unknown device", 1) if manifest is None else (manifest.device, manifest.world_size)
