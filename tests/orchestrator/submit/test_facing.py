"""The address that another host sees of this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.submit.facing import address_facing


def test_a_loopback_address_is_faced_from_loopback() -> None:
    assert address_facing("127.0.0.1") == "127.0.0.1"
    assert address_facing("127.0.0.9") == "127.0.0.1"


def test_a_name_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(OSError, match=r"[Nn]ame|resolution"):
        address_facing("nobody.invalid")


def test_it_is_a_program() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "orchestrator.submit.facing", "127.0.0.1"],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "127.0.0.1\n"
