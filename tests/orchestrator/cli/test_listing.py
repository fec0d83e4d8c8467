"""What `--help` lists without importing it is what there is, and a command imports its own module alone."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.cli.app import app
from orchestrator.cli.listing import LISTED, imported

ROOT = Path(__file__).parents[3]
MODULES = Path(cli.__file__).parent
_REPORT = """
import atexit, sys
atexit.register(lambda: print("\\nLOADED", *sorted(name for name in sys.modules if "orchestrator.cli." in name)))
from orchestrator.cli.app import main
main()
"""


@pytest.mark.parametrize("name", LISTED)
def test_the_listing_says_what_the_command_says(name: str) -> None:
    command = imported(name)
    first = inspect.cleandoc(command.help).partition("\n\n")[0]
    assert LISTED[name].help == " ".join(first.split())
    assert not command.hidden


def test_every_command_of_every_module_is_listed() -> None:
    declared: set[str] = set()
    for path in MODULES.glob("*.py"):
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "register" for node in ast.parse(path.read_text()).body
        ):
            module = typer.Typer()
            import_module(f"orchestrator.cli.{path.stem}").register(module)
            found = set(typer.main.get_group(module).commands)
            assert found == {name for name, listed in LISTED.items() if listed.module == path.stem}
            declared |= found
    assert declared == set(LISTED)


def test_a_command_of_the_group_has_its_own_options_and_help() -> None:
    told = CliRunner().invoke(app, ["data", "prepare", "-h"])
    assert told.exit_code == 0
    assert "--cache" in told.output


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["--help"], set()), (["doctor", "--help"], {"trial"}), (["sttus"], set()), ([], set())],
    ids=["help", "one command", "no command", "nothing"],
)
def test_only_the_module_that_is_called_is_imported(words: list[str], wanted: set[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _REPORT, *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    loaded = {name.rpartition(".")[2] for name in told.stdout.rpartition("LOADED")[2].split()}
    commands = {listed.module for listed in LISTED.values()}
    assert loaded & commands == wanted
    assert {"app", "listing"} <= loaded


def test_a_word_that_is_no_command_names_the_nearest() -> None:
    told = CliRunner().invoke(app, ["sttus"])
    assert told.exit_code == 2
    assert "Did you mean 'status'" in told.output


def test_a_shell_completes_names_from_the_listing_and_options_from_the_command() -> None:
    for words, wanted in {"mixgrid pre": {"preview", "predict"}, "mixgrid data pre": {"prepare"}}.items():
        assert completions(words) == wanted
    assert "--storage" in completions("mixgrid status --st")


def completions(words: str) -> set[str]:
    asking = {"_MIXGRID_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    told = CliRunner().invoke(app, env=asking, prog_name="mixgrid")
    return set(told.output.split())


_SEARCHES = """
import atexit, gc
usual = gc.get_threshold()[0]
atexit.register(lambda: print("\\nSEARCHES", gc.get_threshold()[0] // usual, gc.get_freeze_count() > 0))
from orchestrator.cli.app import main
main()
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["status", "demo"], (10, True)), (["doctor", "--help"], (1, False))],
    ids=["brief", "may be long"],
)
def test_a_command_that_only_reads_is_hardly_searched_for_garbage(
    words: list[str], wanted: tuple[int, bool], tmp_path: Path
) -> None:
    line = [sys.executable, "-c", _SEARCHES, *words, *(["--storage", str(tmp_path)] if "demo" in words else [])]
    told = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    times, is_frozen = told.stdout.splitlines()[-1].split()[1:]
    assert (min(int(times), 10), is_frozen == "True") == wanted
