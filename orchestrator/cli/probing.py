"""What `plan --probe` measures before it forecasts, and what it says of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator.cli.common import Places
from orchestrator.forecast import ImageCounts, Span
from orchestrator.plan import PlannedCell
from trainer.spec import RunOptions

if TYPE_CHECKING:
    from orchestrator.probe import Pace, Probe


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
