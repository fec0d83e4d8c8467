"""A table as data: what printing it takes, without the room where tables are declared. Written and read here alone."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from results.aggregate import NetworkName, PolicyName, SelectingTable
from results.frame import TableLike
from trainer.spec import TrialSpec


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowData(_Data):
    """A row as printing needs it."""

    label: str
    group: int | str
    selection: PolicyName | None
    reported_network: NetworkName | None


class FrameData(_Data):
    """How a table's numbers are chosen."""

    selection: PolicyName
    reported_network: NetworkName


class CellData(_Data):
    """A trial in its place."""

    row: str
    label_fraction: Fraction
    seed: int
    spec: TrialSpec

    @property
    def trial_id(self) -> str:
        """The identity of its spec."""
        return self.spec.trial_id


class TableData(_Data):
    """A table whose rows, cells and selection are data."""

    kind: Literal["mixgrid table"] = "mixgrid table"
    name: str
    title: str
    rows: tuple[RowData, ...]
    fractions: tuple[Fraction, ...]
    seeds: tuple[int, ...]
    frame: FrameData
    published: str | None
    reference_row: str | None
    is_demonstration: bool
    overrides: tuple[tuple[str, Any], ...]
    declared: tuple[CellData, ...]

    def cells(self) -> tuple[CellData, ...]:
        """Every trial in its place."""
        return self.declared


class PrintedData(_Data):
    """A table with what its records do not say: who was training, what was stale, and its files by format.

    `running` are trial ids; `stale` says by trial id what had changed.
    """

    table: TableData
    running: tuple[str, ...]
    stale: dict[str, str]
    files: dict[str, str]


class PrintableTable(TableLike, SelectingTable, Protocol):
    """What is asked of a table that is to be written as data."""

    @property
    def rows(self) -> Sequence[Any]: ...


def table_data(table: PrintableTable) -> TableData:
    """A declared table as data."""
    return TableData(
        name=table.name,
        title=table.title,
        rows=tuple(
            RowData(label=row.label, group=row.group, selection=row.selection, reported_network=row.reported_network)
            for row in table.rows
        ),
        fractions=tuple(table.fractions),
        seeds=tuple(table.seeds),
        frame=FrameData(selection=table.frame.selection, reported_network=table.frame.reported_network),
        published=table.published,
        reference_row=table.reference_row,
        is_demonstration=table.is_demonstration,
        overrides=tuple((path, value) for path, value in table.overrides),
        declared=tuple(
            CellData(row=cell.row, label_fraction=cell.label_fraction, seed=cell.seed, spec=cell.spec)
            for cell in table.cells()
        ),
    )
