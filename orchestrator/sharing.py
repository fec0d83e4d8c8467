"""Whether trials share a device: what was measured, kept on this machine, and what it says. Loads no torch.

A device is a GPU, or a few CPUs: there one trial has all of them as threads, two have half each. Nothing is guessed:
what was not measured with this release of torch is said to be so.
"""

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from orchestrator.cost import memory_bytes, trained_size
from trainer.records import DamagedRecord, Record
from trainer.spec import DeepLabV2, TimmNetwork, TrialSpec
from trainer.storage import Storage

COUNTS = (1, 2, 4)
_MOST_CPUS = max(COUNTS)
_WITHIN = 0.05
"""Of the ratio to one alone: what fewer trials at once may take more than the best, and still be preferred."""
_MARGIN = 1.3
"""What a process takes at most of what is counted: work space and the allocator's gaps come on top."""
_CONTEXT_BYTES = 0.6 * 2**30  # a process's own libraries on a device, taken, not measured
_FOLDER = "sharing"
_WORDS = {1: "one", 2: "two", 4: "four"}


class Together(Record):
    """So many trials at once, each with so many torch threads.

    `seconds` is the median time of a step, that of all trials divided by their number; `ratio` is how many times that
    of one alone in the same rounds, with its quartiles `low` and `high`.
    """

    at_once: int
    threads: int
    seconds: float
    ratio: float
    low: float
    high: float


class Sharing(Record):
    """What was measured of one shape of trials on one device.

    `cpus` is how many CPUs were the device, 0 where it was a GPU; `left_out` says why more at once were not measured.
    """

    shape: str
    method: str
    device: str
    cpus: int
    torch: str
    date: str
    rounds: int
    together: tuple[Together, ...]
    left_out: str = ""

    @property
    def best(self) -> Together:
        """The fewest at once that take hardly more time per trial than the best; more than one only beyond the spread.

        Hardly: 0.05 of the time of one alone. Beyond the spread: the upper quartile of the ratio is below 1.
        """
        paying = [part for part in self.together if part.at_once == 1 or part.high < 1]
        least = min(part.ratio for part in paying)
        return min((part for part in paying if part.ratio <= least + _WITHIN), key=lambda part: part.at_once)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """So many trials at once, and the torch threads of each."""

    at_once: int
    threads: int


def arrangements(*, cpus: int, on_gpu: bool) -> list[Arrangement]:
    """One, two and four trials on a GPU; on CPUs as many as share them evenly, at most four CPUs counted."""
    if on_gpu:
        return [Arrangement(count, 1) for count in COUNTS]
    device = max(count for count in COUNTS if count <= max(1, cpus))
    return [Arrangement(count, device // count) for count in COUNTS if count <= device]


def that_fit(wanted: Sequence[Arrangement], spec: TrialSpec, free: float) -> tuple[list[Arrangement], str]:
    """Those for which a device has memory by what is counted, and why there are no more of them.

    Args:
        free: bytes that the device has left.
    """
    needed = memory_bytes(spec)
    if needed is None:
        return [], "the memory of this network was never counted"
    each = _MARGIN * needed + _CONTEXT_BYTES
    fitting = [one for one in wanted if one.at_once * each <= free]
    if len(fitting) == len(wanted):
        return fitting, ""
    first = wanted[len(fitting)].at_once
    return (
        fitting,
        f"{_WORDS[first]} at once may need {first * each / 2**30:.1f} GiB of {free / 2**30:.1f} that are free",
    )


def cpus_here() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """What the maker calls the processor, else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.machine()


@lru_cache
def torch_release() -> str:
    """The release of torch, read without loading it."""
    return version("torch")


def shape_of(spec: TrialSpec) -> str:
    """What decides whether trials gain by sharing, in words: network, trained size, batches and precision."""
    height, width = trained_size(spec)
    batches = f"{spec.labeled_batch} + {spec.unlabeled_batch}"
    return f"{_network(spec)} at {height} x {width}, batch {batches}, {spec.precision}"


def _network(spec: TrialSpec) -> str:
    network = spec.network
    if isinstance(network, DeepLabV2 | TimmNetwork):
        words = network.backbone
    else:
        words = f"tiny network of width {network.width}"
    return f"{words} ({_digest(network.model_dump_json())[:6]})"


def busiest(specs: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """Of each shape the first spec whose step has most to compute: it keeps a device busiest by itself."""
    found: dict[str, TrialSpec] = {}
    for spec in specs:
        shape = shape_of(spec)
        if shape not in found or _units(spec) > _units(found[shape]):
            found[shape] = spec
    return found


def _units(spec: TrialSpec) -> float:
    return spec.method.forward_units(spec.labeled_batch, spec.unlabeled_batch)


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()


# --- kept ---------------------------------------------------------------------------------------------------------


class SharingBook:
    """What was measured of sharing, one file for each shape, device and release of torch, the newest alone.

    Args:
        folder: that of this machine's caches; measurements lie in `sharing` below it.
    """

    def __init__(self, folder: Path) -> None:
        self._storage = Storage(str(folder))

    def keep(self, sharing: Sharing) -> str:
        """Write a measurement over an older one of the same; where it lies. Raises: OSError naming the place."""
        key = _digest("\n".join((sharing.shape, sharing.device, str(sharing.cpus), sharing.torch)))
        path = f"{_FOLDER}/{key[:16]}.json"
        self._storage.write(path, sharing.sealed())
        return self._storage.locate(path)

    def read(self) -> list[Sharing]:
        """All that was measured with this release of torch, by device; a file that is damaged is passed over."""
        found = []
        for name in self._storage.names(_FOLDER):
            with suppress(DamagedRecord):
                sharing = Sharing.find(self._storage, f"{_FOLDER}/{name}") if name.endswith(".json") else None
                found += [sharing] if sharing is not None and sharing.torch == torch_release() else []
        return sorted(found, key=lambda sharing: (sharing.cpus > 0, sharing.device, sharing.cpus))

    def about(self, shapes: Iterable[str]) -> dict[str, list[Sharing]]:
        """What was measured of each shape, on whatever devices."""
        known = self.read()
        return {shape: [sharing for sharing in known if sharing.shape == shape] for shape in shapes}


# --- said ---------------------------------------------------------------------------------------------------------


def options_of(sharing: Sharing) -> str:
    """The options of `mixgrid run` that do what is best."""
    best = sharing.best
    if sharing.cpus:
        return f"--cpus-per-worker {best.threads}"
    return f"--gpus-per-worker {1 / best.at_once:g}"


def sentence(sharing: Sharing) -> str:
    """What was found on a device, and what is best with the options for it."""
    place = f"{sharing.cpus} CPUs ({sharing.device})" if sharing.cpus else sharing.device
    more = [part for part in sharing.together if part.at_once > 1]
    taken = [_share(part, sharing, is_first=part is more[0]) for part in more]
    if not taken:
        return f"on {place} one trial at a time alone was measured: {sharing.left_out or 'there is one CPU'}"
    alone = next(part for part in sharing.together if part.at_once == 1)
    beside = f"of the time per trial of one alone{_threads(alone, sharing)}"
    words = f"on {place} {taken[0]} {beside}" + "".join(f", {other}" for other in taken[1:])
    best = sharing.best
    verdict = "one alone is best" if best.at_once == 1 else f"{_WORDS[best.at_once]} at once are best"
    reason = f"; {sharing.left_out}" if sharing.left_out else ""
    return f"{words}: {verdict}, {options_of(sharing)} (measured {sharing.date} with {sharing.method}{reason})"


def _share(part: Together, sharing: Sharing, *, is_first: bool) -> str:
    number = f"{_WORDS[part.at_once]} trials at once" if is_first else _WORDS[part.at_once]
    verb = " take" if is_first else ""
    return f"{number}{_threads(part, sharing)}{verb} {part.ratio:.2f} ({part.low:.2f} – {part.high:.2f})"


def _threads(part: Together, sharing: Sharing) -> str:
    if not sharing.cpus:
        return ""
    each = " each" if part.at_once > 1 else ""
    return f" with {part.threads} thread{'s' if part.threads > 1 else ''}{each}"


def lines(rows: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[Sharing]], *, workers: int) -> list[str]:
    """A line for each shape and device, or that a shape was not measured and how it would be.

    Args:
        rows: the rows of each shape.
        workers: ranks of a trial; a share of a GPU goes with one alone.
    """
    found = []
    for shape, names in rows.items():
        which = "" if len(rows) == 1 else f" ({', '.join(names)})"
        found += [f"sharing of {shape}{which}: {sentence(sharing)}" for sharing in known[shape]]
        if not known[shape]:
            found.append(
                f"sharing of {shape}{which}: not measured; `mixgrid plan --probe` on a machine with the device "
                "measures one, two and four trials at once"
            )
    if workers > 1 and any(not sharing.cpus for of_shape in known.values() for sharing in of_shape):
        found.append(f"a share of a GPU goes with --workers 1 only, not with --workers {workers}")
    return found
