"""The code and the user's files as they are now: what a job runs, whatever is edited later.

A snapshot holds the four rooms and the files that a command line names, never data, runs, caches or `.git`.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.submit.request import INPUTS, SubmitError

ROOMS = ("trainer", "experiments", "orchestrator", "results")
# Ray keeps a job's files in the memory of the head; Kubernetes allows a ConfigMap 1 MiB.
MOST_BYTES = 16 * 2**20
_STAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the code comes from: a git commit and the files that differ from it; "" without git."""

    commit: str = ""
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.commit:
            return "code that git does not know"
        changes = f" with {len(self.changed)} files changed: {', '.join(self.changed)}" if self.changed else ""
        return f"commit {self.commit[:12]}{changes}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files by their path, and where the code of them comes from."""

    files: Mapping[str, bytes] = field(repr=False)
    origin: Origin

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents."""
        return _digest(self.files)

    @property
    def code_digest(self) -> str:
        """The same over the rooms alone: what an image holds."""
        return _digest({name: content for name, content in self.files.items() if name.split("/")[0] in ROOMS})

    @property
    def inputs(self) -> dict[str, bytes]:
        """The user's files by their name below `inputs`."""
        return {n.partition("/")[2]: content for n, content in self.files.items() if n.startswith(f"{INPUTS}/")}

    def with_files(self, files: Mapping[str, bytes]) -> "Snapshot":
        """This snapshot and more files."""
        return replace(self, files={**self.files, **files})

    def zipped(self) -> bytes:
        """All files as one archive, the same bytes for the same files."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(self.files):
                archive.writestr(zipfile.ZipInfo(name, _STAMP), self.files[name], zipfile.ZIP_DEFLATED)
        return target.getvalue()

    def unpack(self, folder: Path) -> None:
        """Write all files below a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def take(words: Sequence[str]) -> tuple[Snapshot, tuple[str, ...]]:
    """Take the code and every file that the words name.

    Args:
        words: TABLE and what chooses and changes its cells, as on a command line.
    Returns: the snapshot, and the words with files at their places in it.
    Raises: SubmitError where it gets too large or a file cannot be read.
    """
    root = Path(__file__).parent.parent.parent
    inputs: dict[str, bytes] = {}
    moved = (_table_moved(words[0], inputs), *(_setting_moved(word, inputs) for word in words[1:]))
    snapshot = Snapshot({**read_rooms(root), **inputs}, origin_of(root))
    refuse_large(snapshot.files)
    return snapshot, moved


def read_rooms(root: Path) -> dict[str, bytes]:
    """The files of the four rooms by path: what git has or would take, without git all but caches."""
    told = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *ROOMS)
    names = told.split("\0") if told and is_ours(root) else _names_below(root)
    paths = {name: root / name for name in sorted(set(names)) if name}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def _names_below(root: Path) -> list[str]:
    paths = [path.relative_to(root) for room in ROOMS for path in (root / room).rglob("*")]
    return [path.as_posix() for path in paths if not any(part.startswith((".", "__pycache__")) for part in path.parts)]


def is_ours(root: Path) -> bool:
    """Whether git knows the rooms: a folder inside somebody else's checkout, such as an environment, is not ours."""
    return _git(root, "ls-files", "--error-unmatch", "trainer/__init__.py") is not None


def _table_moved(word: str, inputs: dict[str, bytes]) -> str:
    path, suffix, name = word.rpartition(".py")
    return f"{_put(Path(path + suffix), inputs)}{name}" if suffix else word


def _setting_moved(word: str, inputs: dict[str, bytes]) -> str:
    path, at, file = word.partition("=@")
    return f"{path}=@{_put(Path(file), inputs)}" if at else word


def _put(path: Path, inputs: dict[str, bytes]) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SubmitError(f"cannot read {path}, which the job needs: {error.strerror or error}") from error
    name = f"{INPUTS}/{len(inputs)}-{path.name}"
    inputs[name] = content
    return name


def refuse_large(files: Mapping[str, bytes]) -> None:
    """Raises: SubmitError naming the largest files where there is more than a cluster should be sent."""
    total = sum(len(content) for content in files.values())
    if total > MOST_BYTES:
        largest = sorted(files, key=lambda name: -len(files[name]))[:3]
        names = ", ".join(f"{name} ({len(files[name]) / 2**20:.1f} MiB)" for name in largest)
        raise SubmitError(
            f"the snapshot has {total / 2**20:.1f} MiB, {MOST_BYTES / 2**20:.0f} are the most: keep data out of the "
            f"code and of the table's files; the largest are {names}"
        )


def origin_of(root: Path) -> Origin:
    """The commit of a checkout and the files of the rooms that differ from it, new ones included."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None or not is_ours(root):
        return Origin()
    told = _git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", *ROOMS) or ""
    return Origin(commit.strip(), tuple(sorted(entry[3:] for entry in told.split("\0") if entry)))


def _git(root: Path, *words: str) -> str | None:
    with suppress(OSError):
        told = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return told.stdout if told.returncode == 0 else None
    return None


def refuse_other_trials(snapshot: Snapshot, words: Sequence[str], trial_ids: Iterable[str]) -> None:
    """Read the table from the snapshot alone, as the job will. Raises: SubmitError unless it gives the same trials."""
    with tempfile.TemporaryDirectory(prefix="mixgrid-") as place:
        snapshot.unpack(Path(place))
        program = [sys.executable, "-m", "orchestrator.cli", "status", *words, "--json", "--storage", f"{place}/runs"]
        told = subprocess.run(
            program, capture_output=True, text=True, check=False, cwd=place, env={**os.environ, "PYTHONPATH": place}
        )
    if told.returncode != 0:
        raise SubmitError(f"the table cannot be read from what would travel: {told.stderr.strip() or told.stdout}")
    if {cell["trial_id"] for cell in json.loads(told.stdout)} != set(trial_ids):
        raise SubmitError("the table gives other trials elsewhere: it must not depend on this folder, time or machine")


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()
