"""The digest of the code that decides a number: what changes it, what does not, and which file it was."""

import ast
import io
import shutil
import tokenize
from pathlib import Path

import pytest

import trainer.code
from trainer.code import changed_files, code_digest, code_files, code_path, keep_code_files, remember_digests
from trainer.storage import Storage

ROOM = Path(trainer.code.__file__).parent


@pytest.fixture
def copied_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the training room, whose digest is taken instead."""
    room = tmp_path / "trainer"
    shutil.copytree(ROOM, room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(trainer.code, "__file__", str(room / "code.py"))
    return room


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "runs"))


def replace_in(path: Path, before: str, now: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, now))


def test_the_code_digest_is_that_of_a_copy_anywhere(copied_room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = code_digest()
    monkeypatch.undo()
    assert code_digest() == copied


@pytest.mark.parametrize("name", ["loop.py", "losses.py", "methods/masks.py", "data/streams.py", "models/tiny.py"])
def test_the_code_digest_changes_with_a_file_that_decides_the_number(copied_room: Path, name: str) -> None:
    before = code_digest()
    (copied_room / name).write_text((copied_room / name).read_text() + "\nCHANGED = True\n")
    assert code_digest() != before


@pytest.mark.parametrize(
    "name",
    [
        *("code.py", "records.py", "checkpoint.py", "host.py", "run.py", "journal.py", "mask_statistics.py"),
        *("preview.py", "trial_preview.py", "drawing.py", "predicting.py", "trained.py"),
    ],
)
def test_the_code_digest_stays_with_a_file_that_only_stores_or_shows(copied_room: Path, name: str) -> None:
    before = code_digest()
    (copied_room / name).write_text("CHANGED = True\n")
    assert code_digest() == before


def test_the_code_digest_changes_when_a_file_is_added_or_renamed(copied_room: Path) -> None:
    before = code_digest()
    (copied_room / "schedules.py").rename(copied_room / "timetables.py")
    renamed = code_digest()
    (copied_room / "methods/new.py").write_text("")
    assert len({before, renamed, code_digest()}) == 3


# --- words for persons --------------------------------------------------------------------------------------------

FILE = """
import math

def area(radius):
    return math.pi * radius**2
"""


def digest_with(copied_room: Path, text: str) -> str:
    (copied_room / "new.py").write_text(text, newline="")
    return code_digest()


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("import math\n", "import math  # for pi\n"),
        ("import math\n", '"""Circles."""\nimport math\n'),
        ("    return", '    """Square metres.\n\n    Of a circle.\n    """\n\n    # Euclid\n    return'),
        ("    return", "    r'Of a circle.'\n    return"),
        ("\n\ndef", "\n\n\n\ndef"),
        ("\n", "\r\n"),
    ],
    ids=["comment", "docstring", "long", "raw", "blank", "line ends"],
)
def test_words_for_persons_change_nothing(copied_room: Path, before: str, now: str) -> None:
    assert before in FILE
    assert digest_with(copied_room, FILE.replace(before, now)) == digest_with(copied_room, FILE)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("radius**2", "radius**3"),
        ("    return", "    return 0\n    return"),
        ("radius**2", "len('#')"),
        ("math.pi", "(\n        'docstring'\n    )"),
        ("    return", "    '{}'.format(radius)\n    return"),
        ("    return", "    x = 'of a circle'\n    return"),
        ("\n    return", "\n    if radius:\n        return"),
    ],
)
def test_what_is_run_counts(copied_room: Path, before: str, now: str) -> None:
    assert before in FILE
    assert digest_with(copied_room, FILE.replace(before, now)) != digest_with(copied_room, FILE)


def test_what_stands_in_a_string_counts_to_the_last_space(copied_room: Path) -> None:
    texts = ['x = """\n\na # b\n"""\n', 'x = """\na # b\n"""\n', 'x = """\n\na # c\n"""\n', 'x = """\n\na # b \n"""\n']
    assert len({digest_with(copied_room, text) for text in texts}) == len(texts)


def test_a_file_that_is_no_python_counts_as_it_is(copied_room: Path) -> None:
    assert digest_with(copied_room, "x = (  # open") != digest_with(copied_room, "x = (  # never closed")


def test_every_file_keeps_all_that_is_run() -> None:
    """Against Python's own parser, which says where documentation stands."""
    for path in (ROOM / name for name in code_files()):
        text = path.read_text()
        kept = "\n".join(trainer.code._working_lines(text.encode()))
        documentation = {line for node in ast.walk(ast.parse(text)) for line in _documentation(node)}
        assert _words(kept, set()) == _words(text, documentation), path


def _documentation(node: ast.AST) -> range:
    is_one = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return range(node.lineno, (node.end_lineno or 0) + 1) if is_one and isinstance(node, ast.Expr) else range(0)


def _words(text: str, left_out: set[int]) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    words = [t.string for t in tokens if t.type != tokenize.COMMENT and t.start[0] not in left_out]
    return [word for word in words if word.strip()]


# --- which file it was --------------------------------------------------------------------------------------------


def test_files_that_changed_came_or_went_are_named(copied_room: Path, storage: Storage) -> None:
    keep_code_files(storage)
    before = code_digest()
    assert changed_files(storage, before) == ()
    replace_in(copied_room / "losses.py", "IGNORE_INDEX = 255", "IGNORE_INDEX = 254")
    (copied_room / "schedules.py").unlink()
    (copied_room / "methods/new.py").write_text("")
    assert changed_files(storage, before) == ("losses.py", "methods/new.py", "schedules.py")


def test_code_that_nobody_wrote_down_names_no_file(storage: Storage) -> None:
    assert changed_files(storage, code_digest()[::-1]) == ()


@pytest.mark.parametrize("damage", ["cut", "another's"])
def test_a_damaged_or_wrong_list_of_files_names_none(storage: Storage, damage: str) -> None:
    keep_code_files(storage)
    path = code_path(code_digest())
    content = storage.read(path)
    if damage == "cut":
        storage.write(path, content[:-40])
        assert changed_files(storage, code_digest()) == ()
    else:
        storage.write(code_path("f" * 64), content)
        assert changed_files(storage, "f" * 64) == ()


def test_files_are_written_down_once(storage: Storage) -> None:
    keep_code_files(storage)
    stamp = storage.modified(code_path(code_digest()))
    keep_code_files(storage)
    assert storage.modified(code_path(code_digest())) == stamp
    assert storage.names("code") == [f"{code_digest()}.json"]


# --- what this machine remembers of files -------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of today's files, and a process that knows none of them."""
    memory = tmp_path / "cache" / "code.json"
    monkeypatch.setattr(trainer.code, "_digests", {})
    remember_digests(memory.parent)
    trainer.code._digests.clear()
    return memory


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are taken apart."""
    contents: list[bytes] = []
    real = trainer.code._working_lines
    monkeypatch.setattr(trainer.code, "_working_lines", lambda content: contents.append(content) or real(content))
    return contents


def test_remembered_files_are_not_taken_apart_again(memory: Path, looked_into: list[bytes], copied_room: Path) -> None:
    remember_digests(memory.parent)
    digest = code_digest()
    assert looked_into == []
    trainer.code._digests.clear()
    assert code_digest() == digest
    assert len(looked_into) == len(code_files())


def test_a_changed_file_alone_is_taken_apart_and_remembered(
    memory: Path, looked_into: list[bytes], copied_room: Path
) -> None:
    before = code_digest()
    (copied_room / "losses.py").write_text("CHANGED = True\n")
    trainer.code._digests.clear()
    del looked_into[:]
    remember_digests(memory.parent)
    assert code_digest() != before
    assert looked_into == [b"CHANGED = True\n"]
    trainer.code._digests.clear()
    del looked_into[:]
    remember_digests(memory.parent)
    assert code_digest() != before
    assert looked_into == []


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"digests": {}, "reader": "", "sha256": "0"}'])
def test_a_damaged_memory_of_files_is_none(
    memory: Path, looked_into: list[bytes], copied_room: Path, kept: bytes
) -> None:
    memory.write_bytes(kept)
    remember_digests(memory.parent)
    assert looked_into
    del looked_into[:]
    trainer.code._digests.clear()
    remember_digests(memory.parent)
    assert looked_into == []


def test_another_way_of_reading_remembers_for_itself(memory: Path, looked_into: list[bytes], copied_room: Path) -> None:
    (copied_room / "code.py").write_text("# another one\n")
    remember_digests(memory.parent)
    assert looked_into


def test_a_memory_of_files_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    remember_digests(tmp_path / "file")
    assert not list(tmp_path.rglob("*.part"))
