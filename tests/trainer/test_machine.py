"""What a trial does to its process."""

import ctypes
from types import SimpleNamespace

import pytest

from trainer import machine

# malloc.h of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def test_freed_memory_is_kept_up_to_a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int] = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(mallopt=told.__setitem__))
    machine.keep_freed_memory()
    assert told == {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 2**30}


def test_a_library_without_that_choice_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    machine.keep_freed_memory()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_glibc_accepts_both_sizes() -> None:
    library = ctypes.CDLL(None)
    assert library.mallopt(M_MMAP_THRESHOLD, 32 * 2**20) == 1
    assert library.mallopt(M_TRIM_THRESHOLD, 2**30) == 1
