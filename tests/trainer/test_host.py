"""The trainer's view of the outside."""

import os
import signal
from collections.abc import Iterator

import pytest

from trainer.host import NoHost, ProcessHost

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture
def host() -> Iterator[ProcessHost]:
    """A process host whose signal handlers are taken away again."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield ProcessHost()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nobody_never_stops_a_trial() -> None:
    NoHost().report({"step": 1})
    assert not NoHost().stop_requested(1)


def test_a_process_goes_on_until_a_signal_comes(host: ProcessHost) -> None:
    assert not host.stop_requested(1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop(host: ProcessHost, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert host.stop_requested(1)
    assert host.stop_requested(2)


def test_a_process_prints_its_progress_in_one_line(host: ProcessHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.report({"step": 3, "supervised_loss": 0.123456, "note": "mixing"})
    assert capsys.readouterr().out == "step=3 supervised_loss=0.1235 note=mixing\n"


def test_only_the_first_rank_prints(
    host: ProcessHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.distributed.rank", lambda: 1)
    host.report({"step": 3})
    assert capsys.readouterr().out == ""
