"""What a report is made of: plain values, gathered elsewhere. Knows neither page nor disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from results.compute import ComputedTable
from results.frame import Frames
from results.plot_output import Plot

Entries = Sequence[tuple[str, str]]
"""Titles and texts, in order."""


class PictureLike(Protocol):
    """What is asked of a picture. Kinds: image, truth, prediction, error, mask, mix; `row` is "" for the first two."""

    @property
    def title(self) -> str: ...
    @property
    def row(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def image_name(self) -> str: ...
    @property
    def png(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class DeviceHours:
    """Device-hours on one kind of device: in all, and lost to work that no number rests on."""

    device: str
    used: float
    lost: float


@dataclass(frozen=True)
class ReportParts:
    """Everything on the page.

    `frames` are those that `table` was computed from; `plots` those of `results.plots.plots_of`. `statistics` and
    `compute_statement` are sentences; `hours` are by device. `origins` says by trial id where its number comes from.
    `pictures` may be empty: `no_pictures` then says why. `files` are (what, path relative to the page).
    """

    table: ComputedTable
    frames: Frames
    plots: Sequence[Plot] = ()
    statistics: Sequence[str] = ()
    hours: Sequence[DeviceHours] = ()
    compute_statement: str = ""
    origins: Mapping[str, Entries] = field(default_factory=dict)
    pictures: Sequence[PictureLike] = ()
    no_pictures: str = "none were drawn"
    files: Sequence[tuple[str, str]] = ()
