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


class DeviceHoursLike(Protocol):
    """What is asked of the hours of one kind of device: those that stand in results, were lost, are still open."""

    @property
    def device(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def used_hours(self) -> float: ...
    @property
    def lost_hours(self) -> float: ...
    @property
    def open_hours(self) -> float: ...


@dataclass(frozen=True)
class ReportParts:
    """Everything on the page.

    `frames` are those that `table` was computed from; `plots` those of `results.plots.plots_of`. `statistics` and
    `compute_statement` are sentences; `hours` are by device. `origins` says by trial id where its number comes from.
    `picture_notes` say what `pictures` show, or why there are none. `files` are (what, paths relative to the page).
    """

    table: ComputedTable
    frames: Frames
    plots: Sequence[Plot] = ()
    statistics: Sequence[str] = ()
    hours: Sequence[DeviceHoursLike] = ()
    compute_statement: str = ""
    origins: Mapping[str, Entries] = field(default_factory=dict)
    pictures: Sequence[PictureLike] = ()
    picture_notes: Sequence[str] = ()
    files: Sequence[tuple[str, Sequence[str]]] = ()
