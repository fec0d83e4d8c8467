"""What a trial does to its process."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

_FAULTS = """
import resource, torch
from trainer.machine import keep_freed_memory
{prepare}
def touch():
    kept = [torch.ones(2**20) for _ in range(16)]
for _ in range(3):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(prepare: str) -> int:
    code = _FAULTS.format(prepare=prepare)
    root = Path(__file__).parents[2]
    return int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True).stdout
    )


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_memory_that_was_freed_is_used_again_without_asking_for_pages() -> None:
    assert 3 * page_faults("keep_freed_memory()") < page_faults("")
