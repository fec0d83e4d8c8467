"""How the other ranks of a trial reach this machine: its address, and the network interface that has it. No torch."""

import os
import socket
from ipaddress import ip_address

import psutil

_GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
# Reserved for documentation (RFC 5737), so that the way there is the default route. Nothing is sent.
_ANYWHERE = "192.0.2.1"


def address_towards(host: str) -> str | None:
    """This machine's address on the way to another, by its routes; None where there is no way. Nothing is sent."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            address: str = probe.getsockname()[0]
            return address
    except OSError:
        return None


def interface_of(address: str) -> str | None:
    """The name of the network interface that has an address; None where none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            return str(name)
    return None


def speak_over(address: str) -> None:
    """Let gloo meet the other ranks over the interface that has this address; what somebody has set stays.

    By itself gloo takes the address that this host's own name means, which on many is 127.0.1.1 or a network for
    something else, and the ranks of other hosts wait for it in vain.
    """
    interface = interface_of(address)
    if interface is not None:
        os.environ.setdefault(_GLOO_INTERFACE, interface)


def speak_towards(master: str) -> None:
    """The same by the host where ranks meet; on that host itself, whose name may mean 127.0.1.1, the default route."""
    for host in (master, _ANYWHERE):
        address = address_towards(host)
        if address is not None and not ip_address(address).is_loopback:
            speak_over(address)
            return


def name_and_address() -> str:
    """What this host is called and, where ranks meet over a network, its address there: "node7 (10.0.0.7)"."""
    master = os.environ.get("MASTER_ADDR")
    address = address_towards(master) if master else None
    return socket.gethostname() if address is None else f"{socket.gethostname()} ({address})"
