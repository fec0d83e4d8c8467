"""The command that measures how fast the parts of training are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from orchestrator.bench.measuring import Figure, Spread

PARTS = ("masks", "loader", "evaluate", "step", "startup", "sharing")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(bench)


def bench(
    parts: Annotated[list[str] | None, typer.Argument(metavar="[PART]...", help=f"Of {', '.join(PARTS)}; all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured, in turns.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads, as of one rank.")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where it computes.")] = "auto",
    size: Annotated[
        Literal["small", "usual", "paper"],
        typer.Option(help="small shows that it works; paper: steps of the paper's size, on a CPU (minutes) no others."),
    ] = "usual",
    json_file: Annotated[Path | None, typer.Option("--json", help="A file for all figures.")] = None,
) -> None:
    """Measure masks, loader, evaluation, step, start-up and sharing, each beside a plain reference in the same run."""
    chosen = parts or list(PARTS)
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise ValueError(f"no part of the bench is named {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    from orchestrator.bench.measuring import report_of
    from orchestrator.bench.parts import measure, prepared
    from trainer.machine import device_name, has_fast_bf16

    setting = prepared(device=device, threads=threads, rounds=rounds, size=size)
    console, figures = Console(), []
    name = device_name(str(setting.device))
    console.print(f"{name}, {threads} threads, {rounds} rounds, size {size}; medians with quartiles", highlight=False)
    if "step" in chosen and not has_fast_bf16(setting.device.type):
        console.print("steps in bf16 are left out: torch has plain loops alone for bf16 on this processor")
    for part in chosen:
        found = measure(part, setting)
        figures += found
        console.print("\n".join([part, *lines_of(found)]), markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(report_of(figures, setting, name), indent=1) + "\n")
        print(json_file)


def lines_of(figures: "list[Figure]") -> list[str]:
    """The figures of a part for a terminal: time, what it is beside, and further numbers below."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        words = [f"  {figure.name:<{width}}  {milliseconds(figure.seconds):>28}"]
        if figure.ratio is not None:
            words.append(f"{spread(figure.ratio)} times {figure.reference}")
        if figure.target:
            words.append(f"aim: {figure.target}")
        lines.append("  ".join(words))
        lines += (
            ["    " + ", ".join(f"{name} {value:.4g}" for name, value in figure.more.items())] if figure.more else []
        )
    return lines


def milliseconds(value: "Spread") -> str:
    """Median and quartiles in milliseconds."""
    return f"{value.median * 1e3:.4g} ms ({value.low * 1e3:.3g}–{value.high * 1e3:.3g})"


def spread(value: "Spread") -> str:
    """Median and quartiles, to three digits."""
    return f"{value.median:.3g} ({value.low:.3g}–{value.high:.3g})"
