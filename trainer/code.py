"""Which code decides a number, and what it is: a digest of all of it, and of each file to say which one changed.

What is said to persons only (comments, docstrings, blank lines) is left out: to reword it changes no number. Loads
neither torch nor ray.
"""

import hashlib
import io
import itertools
import sys
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainer.records import DamagedRecord, Record
from trainer.storage import Storage

# Files below trainer/ that cannot change a number: how it is stored, reported, drawn or asked to stop.
_NOT_DECIDING = {
    "checkpoint.py",
    "code.py",
    "consistency.py",
    "counts.py",
    "drawing.py",
    "errors.py",
    "fitting.py",
    "host.py",
    "journal.py",
    "keeper.py",
    "mask_statistics.py",
    "options.py",
    "palettes.py",
    "predicting.py",
    "preview.py",
    "reading.py",
    "records.py",
    "remote.py",
    "run.py",
    "seals.py",
    "side_by_side.py",
    "storage.py",
    "telling.py",
    "trained.py",
    "trial_preview.py",
    "watchdog.py",
}
_MEMORY = "code.json"
_LAYOUT = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class CodeFiles(Record):
    """The files behind a code digest: their names below `trainer/` and the SHA-256 of what each does."""

    digest: str
    files: dict[str, str]


def code_files() -> dict[str, str]:
    """The number-deciding files of the training room by name, and the SHA-256 of what each does."""
    return {name: _digest_of(content) for name, content in _contents().items()}


def _contents() -> dict[str, bytes]:
    room = Path(__file__).parent
    paths = [path for path in sorted(room.rglob("*.py")) if path.name not in _NOT_DECIDING]
    return {path.relative_to(room).as_posix(): path.read_bytes() for path in paths}


def code_digest() -> str:
    """SHA-256 over the number-deciding files of the training room, by name and what they do."""
    return _digest_over(code_files())


def _digest_over(files: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(files.items())).encode()).hexdigest()


def _digest_of(content: bytes) -> str:
    key = hashlib.sha256(content).hexdigest()
    if key not in _digests:
        _digests[key] = hashlib.sha256("\n".join(_working_lines(content)).encode()).hexdigest()
    return _digests[key]


_digests: dict[str, str] = {}
"""What a file does, by the SHA-256 of its bytes."""


def remember_digests(folder: Path) -> None:
    """Take what is known of today's files from a folder of this machine, and put the rest there: reading takes a while.

    The memory is sealed, speaks of bytes alone and holds for one release of this module and of Python.
    """
    now = {hashlib.sha256(content).hexdigest() for content in _contents().values()}
    reader = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()
    memory = Storage(str(folder))
    with suppress(OSError, DamagedRecord):
        kept = _KnownDigests.find(memory, _MEMORY)
        if kept is not None and kept.reader == reader:
            _digests.update(kept.digests)
            if kept.digests.keys() == now:
                return
    code_files()
    with suppress(OSError):
        memory.write(_MEMORY, _KnownDigests(reader=reader, digests={key: _digests[key] for key in now}).sealed())


class _KnownDigests(Record):
    reader: str
    digests: dict[str, str]


def _working_lines(content: bytes) -> list[str]:
    """The lines of a Python file without what is for persons; of a file that is no Python, all of them."""
    text = content.decode(errors="replace").replace("\r\n", "\n")
    lines = text.split("\n")
    try:
        tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.NL]
    except (tokenize.TokenError, SyntaxError):
        return lines
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    working = [token for token in tokens if token.type != tokenize.COMMENT]
    rows = {row for token in _without_documentation(working) for row in range(token.start[0], token.end[0] + 1)}
    return [lines[row - 1] for row in sorted(rows)]


def _without_documentation(tokens: list[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    """The tokens that do something: without layout, and without strings that are a statement, which do nothing."""
    befores = itertools.chain((tokenize.ENCODING,), (token.type for token in tokens))
    afters = itertools.chain((token.type for token in tokens[1:]), (tokenize.ENDMARKER,))
    for before, token, after in zip(befores, tokens, afters, strict=False):
        is_statement = token.type == tokenize.STRING and before in _LAYOUT and after in _LAYOUT
        if token.type not in _LAYOUT and not is_statement:
            yield token


def keep_code_files(storage: Storage) -> None:
    """Write down, once, which files stand behind the digest of this code."""
    files = code_files()
    digest = _digest_over(files)
    if not storage.exists(code_path(digest)):
        storage.write(code_path(digest), CodeFiles(digest=digest, files=files).sealed())


def changed_files(storage: Storage, digest: str) -> tuple[str, ...]:
    """The files that are not here what they were in the code of a digest, or are there alone; none if it is unknown."""
    with suppress(DamagedRecord):
        kept = CodeFiles.find(storage, code_path(digest))
        if kept is not None and kept.digest == digest == _digest_over(kept.files):
            here = code_files()
            return tuple(sorted(n for n in {*kept.files, *here} if kept.files.get(n) != here.get(n)))
    return ()


def code_path(digest: str) -> str:
    """Where the files of a digest are written down."""
    return f"code/{digest}.json"
