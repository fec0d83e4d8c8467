"""The command `compare`: rows with the reference row, cells with their published values, in words or as CSV."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from orchestrator.cli.common import Chosen, Places, on_table, that_compares


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("compare")(compare)


@on_table
@that_compares
def compare(
    chosen: Chosen,
    places: Places,
    reference: Annotated[str | None, typer.Option(help="Compare with this row; default: as the table says.")] = None,
    margin: Annotated[float, typer.Option(help="Points up to which a published value counts as reached.")] = 0.5,
    policy: Annotated[
        Literal["last", "best"] | None, typer.Option(help="Which evaluation counts, in every row.")
    ] = None,
    network: Annotated[
        Literal["student", "teacher"] | None, typer.Option(help="Which network counts, in every row.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="A CSV file instead of the screen.")] = None,
) -> None:
    """Compare rows with the reference row, pair by pair and seed by seed, and cells with their published values."""
    from orchestrator.cli.output import computed
    from orchestrator.cli.statistics_view import print_statistics
    from results.statistics import format_statistics_csv, what_varies
    from results.tables import write_table

    table = chosen.table
    result = computed(table, chosen.storage, policy=policy, network=network, places=places)
    if out is None:
        varies = what_varies(table)
        print_statistics(result, Console(), reference=reference, margin_points=margin, varies=varies)
        return
    write_table(format_statistics_csv(result, reference=reference, margin_points=margin), out)
    print(out)
