"""What a trial runs on: its device, how exact it is, the versions of its libraries."""

import ctypes
import os
import platform

import torch

from trainer.errors import SetupError
from trainer.spec import RunOptions


def make_deterministic(wanted: bool) -> None:
    """Ask torch for kernels whose sums have a fixed order: on a GPU it costs time, on the CPU they are so anyway."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted


def choose_device(options: RunOptions) -> torch.device:
    """The device of this rank. Raises: SetupError where a device is asked for that is not there."""
    if options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SetupError("device 'cuda' is asked for, but torch finds no CUDA device here: use --device cpu or auto")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    index = local_rank if torch.cuda.device_count() > local_rank else 0
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def keep_freed_memory() -> None:
    """Let the C library keep what a CPU step frees, up to 1 GiB, for the next: else each page comes anew, as zeros.

    The sizes are glibc's numbers for its trim threshold and, at most 32 MiB, its threshold of separate mappings; where
    there is no glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**30)


def give_back_freed_memory() -> None:
    """Return to the system what glibc keeps of freed memory: only then does a process grow by what it takes next."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def allow_tf32(allowed: bool) -> None:
    """Say whether CUDA may round the factors of float32 products to TF32; torch's own default differs by operation."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def has_fast_bf16(device: str) -> bool:
    """Whether torch computes bf16 by more than plain loops: on GPUs, and on processors from AVX-512 on (oneDNN)."""
    return not device.startswith("cpu") or torch.backends.cpu.get_cpu_capability() not in _PLAIN_LOOPS


_PLAIN_LOOPS = ("DEFAULT", "NO AVX", "AVX2")


def device_name(device: str) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu ({platform.machine()})"


def versions() -> dict[str, str]:
    """The libraries whose release may move a number."""
    import numpy
    import PIL

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "cuda": torch.version.cuda or "none",
    }
