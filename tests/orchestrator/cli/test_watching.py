"""`status --watch`: what stands on a screen of any size, and how it is left."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.watching import links_of, rates, view_on, whole_view
from orchestrator.plan import never_stale
from orchestrator.sight import Sight, look
from tests.orchestrator.test_sight import SPECS, TABLE, hold, say
from tests.results.builders import put_done, put_failed
from trainer.storage import Storage

ROOT = Path(__file__).parents[3]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """One done, one failed, two that say how far they are, two in line."""
    storage = Storage(str(tmp_path / "runs"))
    put_done(storage, SPECS[0])
    put_failed(storage, SPECS[1])
    hold(storage, SPECS[2:], dashboard="http://10.0.0.1:8265")
    say(storage, SPECS[2], 10, 2.0)
    say(storage, SPECS[3], 5, 0.5, seconds_ago=600)
    return storage


def see(storage: Storage) -> Sight:
    return look(TABLE, storage, never_stale)


def drawn(sight: Sight, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(view_on(console, TABLE, sight, ["MLflow  http://mlflow:5000"]))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 14), (120, 40)])
def test_a_view_fits_on_its_screen_and_says_how_to_leave(storage: Storage, width: int, height: int) -> None:
    lines = drawn(see(storage), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("1 training, 3 in line; 2.0 steps/s; about ")
    assert "Ctrl-C leaves" in lines[-1]


def test_a_view_tells_trials_failures_devices_and_links(storage: Storage) -> None:
    told = "\n".join(drawn(see(storage), 100, 30))
    for word in ("Supervised@1/3#2", "10/20", "2.00/s", "5 s", "silent for", "10 min 00 s"):
        assert word in told
    for word in ("failed  Supervised@1/3#1  non_finite_loss", "1 x cpu on node-a", "MLflow  http", "http://10.0.0.1"):
        assert word in told


def test_what_does_not_fit_is_counted(storage: Storage) -> None:
    for spec in SPECS[2:]:
        say(storage, spec, 5, 1.0)
    low, high = ("\n".join(drawn(see(storage), 80, height)) for height in (12, 40))
    assert "and 2 more" in low
    assert "more" not in high


def test_nobody_at_work_and_nothing_to_do_are_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert rates(see(storage)) == "nobody trains these cells now"
    for spec in SPECS:
        put_done(storage, spec)
    assert rates(see(storage)) == "all cells are done"


def test_mlflow_is_linked_where_it_serves_and_named_where_it_is_a_file(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert links_of(storage, "http://mlflow:5000") == ["MLflow  http://mlflow:5000"]
    assert links_of(storage, None) == []
    storage.write("mlflow.db", b"")
    assert links_of(storage, None) == [f"MLflow  mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"]


def test_the_whole_view_needs_no_screen(storage: Storage) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(whole_view(TABLE, see(storage), []))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Supervised@1/3#2" in told
    assert "Ctrl-C" not in told


WORDS = ["status", "demo", "--rows", "ClassMix", "--watch"]


def watching(storage: str) -> list[str]:
    return [sys.executable, "-c", "from orchestrator.cli.app import main; main()", *WORDS, "--storage", storage]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}


def test_without_a_terminal_it_is_printed_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        watching(str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(),
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "nobody trains these cells now" in ran.stdout
    assert "\x1b[?1049h" not in ran.stdout


def test_ctrl_c_leaves_the_screen_as_it_was_with_the_last_view_and_exit_code_0(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        watching(str(tmp_path)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    os.close(theirs)
    seen, until, asked = b"", time.monotonic() + 60, False
    while time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if b"Ctrl-C leaves" in seen and not asked:
            asked = True
            process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    inside, left, after = seen.partition(b"\x1b[?1049l")
    assert b"\x1b[?1049h" in inside
    assert left
    assert b"nobody trains these cells now" in after
    assert b"Traceback" not in after
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")  # the cursor is back


def test_a_script_does_not_watch(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*watching(str(tmp_path)), "--json"], capture_output=True, text=True, check=False, timeout=60, env=environment()
    )
    assert ran.returncode == 2
    assert "--json and --watch" in ran.stderr
