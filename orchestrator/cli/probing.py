"""What `plan --probe` measures before it forecasts, and what it says of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator.cli.common import Places
from orchestrator.forecast import UNFINISHED, ImageCounts, Span
from orchestrator.plan import PlannedCell
from trainer.spec import RunOptions

if TYPE_CHECKING:
    from orchestrator.probe import Pace, Probe

_SLOW_SECONDS = 5.0
"""A step from which on trials at once are not measured: it would take minutes."""
_MOST_STEPS = 50
_ROUNDS = 7


def probe_table(planned: Sequence[PlannedCell], places: Places, counts: ImageCounts, console: Console) -> "Probe":
    """Measure each kind of trial that is missing, where no cell of its row is done; say what was found, or why not."""
    from orchestrator.probe import Probe, device_here, measure, prepared, shape_of, shapes

    options = RunOptions(data=places.data, cache=places.cache, weights=places.weights)
    device = prepared(options)
    probe = Probe(device_here(device), counts)
    wanted = unmeasured(planned)
    for shape, spec in shapes(item.cell.spec for item in wanted).items():
        rows = ", ".join(dict.fromkeys(item.cell.row for item in wanted if shape_of(item.cell.spec) == shape))
        try:
            pace = measure(spec, options, device)
        except (ValueError, OSError, RuntimeError) as error:
            said = f"not possible, so the forecast goes by what else is known: {error}"
        else:
            probe.add(spec, pace)
            said = pace_words(pace)
        console.print(f"probe of {rows}: {said}", markup=False, highlight=False, soft_wrap=True)
    return probe


def probe_sharing(
    planned: Sequence[PlannedCell], places: Places, probe: "Probe", console: Console, *, rounds: int = _ROUNDS
) -> None:
    """Measure trials at once for each shape that is still to be trained, and keep what was found; say why not."""
    from orchestrator.bench.measuring import Setting
    from orchestrator.bench.sharing import Shared, measure_fitting
    from orchestrator.probe import prepared
    from orchestrator.sharing import SharingBook, busiest
    from trainer.data.cache import cache_folder

    options = RunOptions(data=places.data, cache=places.cache, weights=places.weights)
    setting = Setting(prepared(options), rounds=rounds)
    for shape, spec in busiest(item.cell.spec for item in planned if item.state in UNFINISHED).items():
        seconds = probe.step_seconds(spec)
        try:
            if seconds is not None and seconds > _SLOW_SECONDS:
                raise ValueError(f"a step takes {seconds:.0f} s here, so it would take minutes")
            shared = Shared(shape, spec, steps_between_looks(seconds))
            SharingBook(cache_folder(places.cache)).keep(measure_fitting(shared, options, setting))
        except (ValueError, OSError, RuntimeError) as error:
            said = f"sharing of {shape} was not measured: {error}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)


def steps_between_looks(step_seconds: float | None) -> int:
    """About a second of steps, at most fifty; ten where nothing is known."""
    return 10 if step_seconds is None else round(min(max(1 / step_seconds, 1), _MOST_STEPS))


def unmeasured(planned: Sequence[PlannedCell]) -> list[PlannedCell]:
    """The cells that are to be trained and whose row has no finished cell to speak for them."""
    spoken_for = {item.cell.row for item in planned if item.state == "done"}
    return [item for item in planned if item.state not in ("done", "failed") and item.cell.row not in spoken_for]


def pace_words(pace: "Pace") -> str:
    """Seconds of a step in each kind of phase, in their order, and of judging an image."""
    steps = ", then ".join(f"{_seconds(span)} a step" for span in pace.steps.values())
    return f"{steps}; judging {_seconds(pace.judging)} an image"


def _seconds(span: Span) -> str:
    return f"{span.expected:.3g} s ({span.low:.3g} – {span.high:.3g})"
