"""By which address and interface the ranks of other hosts find this one."""

import socket

import pytest

from trainer import network
from trainer.network import address_towards, interface_of, name_and_address, speak_over, speak_towards

HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "MASTER_ADDR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_an_address_is_that_of_the_way_to_another_host() -> None:
    assert address_towards(HERE) == HERE
    assert address_towards("no.such.host.invalid") is None


def test_an_interface_is_known_by_its_address() -> None:
    loopback = interface_of(HERE)
    assert loopback is not None
    assert loopback.startswith("lo")
    assert interface_of("203.0.113.9") is None


def test_gloo_is_told_the_interface_unless_somebody_was_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_over("203.0.113.9")
    assert "GLOO_SOCKET_IFNAME" not in network.os.environ
    speak_over(HERE)
    assert network.os.environ["GLOO_SOCKET_IFNAME"] == interface_of(HERE)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    speak_over(HERE)
    assert network.os.environ["GLOO_SOCKET_IFNAME"] == "ib0"


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ({"head": "10.0.0.2"}, ["10.0.0.2"]),
        ({"head": "127.0.1.1", network._ANYWHERE: "10.0.0.1"}, ["10.0.0.1"]),  # on the head itself
        ({"head": "127.0.1.1"}, []),
    ],
)
def test_the_way_to_where_ranks_meet_decides_or_the_default_route(
    ways: dict[str, str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(network, "address_towards", ways.get)
    monkeypatch.setattr(network, "speak_over", chosen.append)
    speak_towards("head")
    assert chosen == told


def test_a_host_is_named_with_its_address_where_ranks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_and_address() == socket.gethostname()
    monkeypatch.setenv("MASTER_ADDR", HERE)
    assert name_and_address() == f"{socket.gethostname()} ({HERE})"
