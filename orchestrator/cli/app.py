"""The command `mixgrid`. Errors a person can mend are one message and exit code 2; a trace comes with --debug only."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.listing import ListedGroup

app = typer.Typer(
    name="mixgrid",
    cls=ListedGroup,
    help="Declare a paper's comparison table; train every cell on Ray; print mean ± std mIoU back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(debug: Annotated[bool, typer.Option("--debug", help="Show traces of errors.")] = False) -> None:
    if debug:
        os.environ["MIXGRID_DEBUG"] = "1"


def main() -> None:
    """Run the command; map errors to messages and exit codes (0 done, 1 unfinished cells, 2 bad input, 130 stopped)."""
    try:
        app()
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run the same command again to go on")
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("MIXGRID_DEBUG") == "1":
            raise
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]mixgrid:[/] {_plain(error)}")
        sys.exit(2)


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))
