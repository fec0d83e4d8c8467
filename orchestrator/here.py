"""What this machine has now of all that decides a number: code, images, splits, weights, libraries. Torch-free.

Nothing is built, drawn or fetched for it: what cannot be looked at is left out, as not checked.
"""

import hashlib
import json
import platform
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from orchestrator.lint import WEIGHT_FILES
from orchestrator.lint_data import DataOnDisk
from trainer.code import code_digest
from trainer.data.cache import CachedSplit, cache_folder, weights_folder
from trainer.data.folders import Layout
from trainer.data.opening import find_copies, find_splits
from trainer.data.published import is_published
from trainer.data.splits import split_of
from trainer.spec import Dataset, TrialSpec

_LIBRARIES = ("torch", "numpy", "pillow")
_MEMORY = "weights.json"
_ImagesKey = tuple[Dataset, bool]
_SplitKey = tuple[_ImagesKey, Fraction, int | None, tuple[str, ...] | None, str]


@dataclass(frozen=True, slots=True)
class _Images:
    """The digest of both splits of a dataset, and the names of its training split with and without a label."""

    digest: str
    labelable: tuple[str, ...]
    without_label: frozenset[str]


class Here:
    """Answers what this machine has for a spec; each thing is looked at once. Threads may ask at once.

    Args:
        data, cache, weights: where images, their caches and initial weights lie (`--data`, `--cache`, `--weights`).
    """

    def __init__(self, data: str, cache: str | None = None, weights: str | None = None) -> None:
        self._data_place, self._disk = data, DataOnDisk(data)
        self._cache = cache_folder(cache)
        self._weights = weights_folder(weights, data=data, cache=cache)
        self._machine = {"code": code_digest(), **versions_here()}
        self._images: dict[_ImagesKey, _Images | None] = {}
        self._splits: dict[_SplitKey, str | None] = {}
        self._files: dict[tuple[str, str], str | None] = {}
        self._lock = threading.Lock()

    def facts(self, spec: TrialSpec) -> dict[str, str]:
        """By name, the digests and versions that a trial of this spec would be made with."""
        with self._lock:
            found = {"data": self._data(spec), "split": self._split(spec), "weights": self._initial_weights(spec)}
        return {**self._machine, **{name: digest for name, digest in found.items() if digest is not None}}

    def _data(self, spec: TrialSpec) -> str | None:
        images = self._images_of(spec)
        return None if images is None else images.digest

    def _images_of(self, spec: TrialSpec) -> _Images | None:
        key = _key_of_images(spec)
        if key not in self._images:
            self._images[key] = self._look_at_images(spec)
        return self._images[key]

    def _look_at_images(self, spec: TrialSpec) -> _Images | None:
        with suppress(ValueError, OSError):
            if is_published(self._data_place):
                copies = find_copies(spec, self._data_place, self._cache)
                return None if copies is None else _images(*copies)
            layout = self._disk.layout(spec)
            both = find_splits(spec, layout, self._cache) if isinstance(layout, Layout) else None
            return None if both is None else _images(*both)
        return None

    def _split(self, spec: TrialSpec) -> str | None:
        images = self._images_of(spec)
        if images is None:
            return None
        drawn = (spec.label_fraction, spec.resolved_split_seed, spec.labeled_names, spec.unlabeled_pool)
        key = (_key_of_images(spec), *drawn)
        if key not in self._splits:
            self._splits[key] = None
            with suppress(ValueError):
                self._splits[key] = split_of(spec, images.labelable, images.without_label).digest
        return self._splits[key]

    def _initial_weights(self, spec: TrialSpec) -> str | None:
        kind, backbone = spec.initial_weights, getattr(spec.network, "backbone", spec.network.kind)
        if kind == "random":
            return "random"
        if (backbone, kind) not in self._files:
            pattern = WEIGHT_FILES.get((backbone, kind))
            found = sorted(self._weights.glob(pattern)) if pattern else []
            with suppress(OSError):
                self._files[backbone, kind] = remembered_digest(found[0], self._cache) if len(found) == 1 else None
        return self._files.get((backbone, kind))


def _key_of_images(spec: TrialSpec) -> _ImagesKey:
    return spec.dataset, spec.evaluation.is_resized


def _images(train: CachedSplit, judged: CachedSplit) -> _Images:
    labelable = tuple(name for name, has_label in zip(train.names, train.has_label, strict=True) if has_label)
    digest = hashlib.sha256(f"{train.digest} {judged.digest}".encode()).hexdigest()
    return _Images(digest, labelable, frozenset(train.names) - set(labelable))


# --- libraries ----------------------------------------------------------------------------------------------------


def versions_here() -> dict[str, str]:
    """The releases that are installed, by the names of `trainer.machine.versions`; nothing is imported for it."""
    return {"python": platform.python_version(), **dict(_installed()), **dict(_cuda())}


def _installed() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _cuda() -> Iterator[tuple[str, str]]:
    """The release of CUDA that torch was built for, as its own file says it; "none" for a build without."""
    with suppress(PackageNotFoundError, OSError):
        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text()
        found = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", text, re.MULTILINE)
        yield "cuda", found[1] if found else "none"


# --- weights ------------------------------------------------------------------------------------------------------


def remembered_digest(path: Path, folder: Path) -> str:
    """SHA-256 of a file; a file of the same size and time of change is not read again.

    Args:
        folder: where digests are remembered; one that cannot be written only costs time.
    """
    stat, memory = path.stat(), folder / _MEMORY
    mark, known = [stat.st_size, stat.st_mtime_ns], _remembered(memory)
    entry = known.get(str(path.absolute()))
    if isinstance(entry, dict) and entry.get("file") == mark and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):
        _remember(memory, {**known, str(path.absolute()): {"file": mark, "sha256": digest}})
    return digest


def _remembered(memory: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        known = json.loads(memory.read_bytes())
        return known if isinstance(known, dict) else {}
    return {}


def _remember(memory: Path, known: dict[str, object]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    draft = memory.with_name(f".{memory.name}.{uuid.uuid4().hex[:8]}.part")
    draft.write_text(json.dumps(known, indent=1))
    draft.replace(memory)
