"""The address under which another host reaches this one: `python -m orchestrator.submit.facing HOST` prints it.

A host's own name often leads to a loopback address, which is of no use to others.
"""

import socket
import sys


def address_facing(host: str) -> str:
    """The address that this host's packets to another bear. Nothing is sent. Raises: OSError where none would go."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


if __name__ == "__main__":
    print(address_facing(sys.argv[1]))
