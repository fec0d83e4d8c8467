"""How long what is missing of a table would take: from finished cells where there are any, else from FLOP.

Times are device-seconds: a trial on several devices is taken to need as many in all as on one. Torch-free.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median
from types import MappingProxyType

from orchestrator.admission import Nodes, TrialQueue
from orchestrator.cost import ACHIEVED_FLOPS, trial_flop
from orchestrator.order import Waiting, layers
from orchestrator.plan import PlannedCell
from orchestrator.rehearsal import rehearse
from trainer.records import (
    DamagedRecord,
    Manifest,
    attempt_path,
)
from trainer.spec import DeepLabV2, TrialSpec
from trainer.storage import Storage

UNFINISHED = ("missing", "partial", "running")
_COUNTS = ("done", "running")  # the seeds of a cell that there are, or will be without us
ImageCounts = Callable[[TrialSpec], tuple[int, int]]
"""The numbers of training and evaluation images of a spec."""
RanOn = tuple[str, int]
"""A kind of device, and how many of them a trial had."""
NOWHERE: Mapping[str, RanOn] = MappingProxyType({})
Probed = Callable[[TrialSpec, int], "tuple[Span, str] | None"]
"""Device-seconds of a trial from a step on as a probe says, and from what; None where it measured nothing of it."""


def not_probed(_spec: TrialSpec, _first_step: int) -> None:
    """The probe that nobody made."""


@dataclass(frozen=True, slots=True)
class Span:
    """An expected value and the range it is seen or taken to lie in."""

    low: float
    expected: float
    high: float

    @property
    def ends(self) -> tuple[float, float, float]:
        """All three, rising."""
        return self.low, self.expected, self.high

    def times(self, factor: float) -> "Span":
        """All three, as many times."""
        return Span(*(value * factor for value in self.ends))


@dataclass(frozen=True, slots=True)
class Length:
    """What is left of a trial: FLOP (None: network unknown), device-seconds, and what these are drawn from.

    `seconds` is None where nothing says how fast the network computes.
    """

    flop: float | None
    seconds: Span | None
    basis: str


@dataclass(frozen=True, slots=True)
class RowForecast:
    """What is missing of a row: trials, FLOP (None: network unknown), device-hours, and why so many."""

    row: str
    num_trials: int
    flop: float | None
    hours: Span | None
    basis: str


def forecast(planned: Sequence[PlannedCell], storage: Storage, counts: ImageCounts) -> list[RowForecast]:
    """A line for each row of which something is missing; a trial that stands in two rows counts in the first."""
    return by_row(planned, lengths(planned, storage, counts))


def by_row(planned: Sequence[PlannedCell], found: Mapping[str, Length]) -> list[RowForecast]:
    """The lengths of unfinished trials, summed up for each row."""
    rows: dict[str, dict[str, Length]] = {}
    seen: set[str] = set()
    for item in planned:
        name = item.cell.trial_id
        if item.state in UNFINISHED and name not in seen:
            rows.setdefault(item.cell.row, {})[name] = found[name]
            seen.add(name)
    return [_of_row(row, list(of_row.values())) for row, of_row in rows.items()]


def _of_row(row: str, of_row: Sequence[Length]) -> RowForecast:
    flops = [length.flop for length in of_row if length.flop is not None]
    spans = [length.seconds for length in of_row if length.seconds is not None]
    flop = sum(flops) if len(flops) == len(of_row) else None
    hours = total(spans).times(1 / 3600) if len(spans) == len(of_row) else None
    return RowForecast(row, len(of_row), flop, hours, of_row[0].basis)


def total(spans: Iterable[Span]) -> Span:
    """The sum; its ends are those of trials that are all fast, or all slow."""
    return Span(*map(sum, zip(*(span.ends for span in spans), strict=True)))


def lengths(
    planned: Sequence[PlannedCell],
    storage: Storage,
    counts: ImageCounts,
    ran_on: Mapping[str, RanOn] = NOWHERE,
    probed: Probed = not_probed,
) -> dict[str, Length]:
    """What is left of every trial that is not done, by id.

    From the time of a step in the finished cells of its row; else from a probe; else from its FLOP at the rate of the
    finished cells of other rows; else, for DeepLab-V2, from its FLOP at an assumed rate. Of several devices the
    commonest speaks.

    Args:
        ran_on: by id, on what trials that are done ran, where that is known; the manifests of others are read.
        probed: what was measured on this machine for it.
    """
    if all(item.state == "done" for item in planned):
        return {}
    done = list({item.cell.trial_id: item for item in reversed(planned) if item.wall_seconds is not None}.values())
    with ThreadPoolExecutor(max_workers=16) as pool:
        devices = pool.map(lambda item: ran_on.get(item.cell.trial_id) or _device(item, storage), done)
        measured = _Measured([_time(item, *device, counts) for item, device in zip(done, devices, strict=True)])
    return {
        item.cell.trial_id: _length(item, measured, counts, probed)
        for item in reversed(planned)  # of two rows the first counts
        if item.state != "done"
    }


def waiting_trials(planned: Sequence[PlannedCell], known: Mapping[str, Length], workers: int) -> list[Waiting]:
    """The trials of known length as a queue takes them, each once and in the order of the table."""
    counted = [item for item in planned if item.cell.trial_id in known or item.state in _COUNTS]
    places = [((item.cell.row, item.cell.label_fraction), item.cell.trial_id in known) for item in counted]
    found: dict[str, Waiting] = {}
    for item, layer in zip(counted, layers(places), strict=True):
        name = item.cell.trial_id
        if name in known and name not in found:
            found[name] = _waiting(item, known[name], workers, layer)
    return list(found.values())


def finishing_time(
    planned: Sequence[PlannedCell], found: Mapping[str, Length], nodes: Nodes, workers: int
) -> Span | None:
    """Seconds until what is missing would be done on these devices alone, by the driver's own order and admission.

    None where the time of a trial is not known, or nothing is missing.
    """
    missing = {item.cell.trial_id for item in planned if item.state in UNFINISHED}
    spans = {name: length.seconds for name, length in found.items() if name in missing}
    if not spans or any(span is None for span in spans.values()):
        return None
    trials = waiting_trials(planned, {name: found[name] for name in spans}, workers)
    whole = [(trial, span) for trial in trials if (span := spans[trial.trial_id]) is not None]
    return Span(
        *(
            rehearse(TrialQueue(replace(t, seconds=span.ends[end] / workers) for t, span in whole), nodes).seconds
            for end in range(3)
        )
    )


def _waiting(item: PlannedCell, length: Length, workers: int, layer: int) -> Waiting:
    """Without a time FLOP tell lengths from each other, and without these the number of steps."""
    if length.seconds is not None:
        return Waiting(item.cell.trial_id, workers, length.seconds.expected / workers, layer)
    relative = length.flop or float(item.cell.spec.num_steps)
    return Waiting(item.cell.trial_id, workers, relative / workers, layer, is_known=False)


# --- measured times -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Time:
    """What a finished cell took: device-seconds of a step, and of a FLOP where these are known."""

    row: str
    device: str
    of_step: float
    of_flop: float | None


class _Measured:
    """The times of finished cells on the device that most of them ran on, row by row and in all."""

    def __init__(self, times: Sequence[_Time]) -> None:
        self._times = times

    def step(self, row: str) -> tuple[Span, str] | None:
        """Device-seconds of a step of a row, and where they come from."""
        return _summed_up([(time.device, time.of_step) for time in self._times if time.row == row])

    def flop(self) -> tuple[Span, str] | None:
        """Device-seconds of a FLOP over all rows."""
        return _summed_up([(time.device, time.of_flop) for time in self._times if time.of_flop is not None])


def _summed_up(times: Sequence[tuple[str, float]]) -> tuple[Span, str] | None:
    """Median and range on the commonest device, and what to call them."""
    if not times:
        return None
    device, number = Counter(device for device, _ in times).most_common(1)[0]
    values = [time for on, time in times if on == device]
    cells = "1 finished cell" if number == 1 else f"the median of {number} finished cells"
    return Span(min(values), median(values), max(values)), f"{cells} on {device}"


def _time(item: PlannedCell, device: str, num_devices: int, counts: ImageCounts) -> _Time:
    assert item.wall_seconds is not None
    seconds = item.wall_seconds * num_devices
    flop = _flop(item.cell.spec, counts)
    return _Time(item.cell.row, device, seconds / item.cell.spec.num_steps, seconds / flop if flop else None)


def _device(item: PlannedCell, storage: Storage) -> RanOn:
    assert item.attempt is not None
    try:
        manifest = Manifest.find(storage, attempt_path(item.cell.trial_id, item.attempt, "manifest.json"))
    except DamagedRecord:
        manifest = None
    return ("an unknown device", 1) if manifest is None else (manifest.device, manifest.world_size)


# --- one trial ----------------------------------------------------------------------------------------------------


def _length(item: PlannedCell, measured: _Measured, counts: ImageCounts, probed: Probed) -> Length:
    spec = item.cell.spec
    flop = _flop(spec, counts, first_step=item.trial.step)
    if (step := measured.step(item.cell.row)) is not None:
        return Length(flop, step[0].times(spec.num_steps - item.trial.step), step[1])
    if (found := probed(spec, item.trial.step)) is not None:
        return Length(flop, *found)
    if flop is not None and (rate := measured.flop()) is not None:
        return Length(flop, rate[0].times(flop), f"FLOP, at the rate of {rate[1]}")
    if flop is None or not isinstance(spec.network, DeepLabV2):
        return Length(flop, None, "unknown until a cell is done")
    slow, fast = ACHIEVED_FLOPS
    seconds = Span(flop / fast, (flop / fast + flop / slow) / 2, flop / slow)
    return Length(flop, seconds, "FLOP at the assumed rate")


def _flop(spec: TrialSpec, counts: ImageCounts, first_step: int = 0) -> float | None:
    num_train, num_eval = counts(spec)
    return trial_flop(spec, num_train=num_train, num_eval=num_eval, first_step=first_step)
