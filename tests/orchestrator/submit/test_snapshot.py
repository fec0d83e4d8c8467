"""What travels: the rooms and the user's files, never data; and where the code comes from."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from orchestrator.submit import snapshot
from orchestrator.submit.request import SubmitError
from orchestrator.submit.snapshot import Origin, Snapshot, origin_of, read_rooms, refuse_other_trials, take
from tests.orchestrator.submit.conftest import TABLE_FILE


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout that looks like ours, with what must never travel beside the code."""
    for name in ("trainer/__init__.py", "trainer/losses.py", "experiments/demo.py", "experiments/notes.txt"):
        write(tmp_path / name, name)
    for name in ("data/big.png", "runs/trials/x/result.json", "trainer/__pycache__/a.py", "trainer/.cache/b.py"):
        write(tmp_path / name, "x" * 100)
    write(tmp_path / "trainer/weights.pt", "x" * 100)
    write(tmp_path / ".gitignore", "data\nruns\n__pycache__\n.cache\n*.pt\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True)
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_only_code_and_what_is_read_beside_it_travels(checkout: Path) -> None:
    write(checkout / "trainer/new.py", "not yet in git")
    wanted = {"trainer/__init__.py", "trainer/losses.py", "experiments/demo.py", "experiments/notes.txt"}
    assert set(read_rooms(checkout)) == {*wanted, "trainer/new.py"}


def test_without_git_everything_but_caches_of_the_rooms_travels(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    wanted = {"trainer/__init__.py", "trainer/losses.py", "experiments/demo.py", "experiments/notes.txt"}
    assert set(read_rooms(checkout)) == {*wanted, "trainer/weights.pt"}


def test_a_file_that_was_deleted_does_not_travel(checkout: Path) -> None:
    (checkout / "trainer/losses.py").unlink()
    assert "trainer/losses.py" not in read_rooms(checkout)
    assert origin_of(checkout).changed == ("trainer/losses.py",)


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    origin = origin_of(checkout)
    assert (len(origin.commit), origin.changed) == (40, ())


def test_a_dirty_checkout_names_what_differs_and_nothing_outside_the_rooms(checkout: Path) -> None:
    write(checkout / "trainer/losses.py", "other")
    write(checkout / "trainer/new one.py", "new")
    write(checkout / "notes.md", "outside")
    assert origin_of(checkout).changed == ("trainer/losses.py", "trainer/new one.py")
    assert str(origin_of(checkout)).endswith("with 2 files changed: trainer/losses.py, trainer/new one.py")


def test_code_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    subprocess.run(["git", "-C", str(checkout), "rm", "-q", "--cached", "-r", "trainer"], check=True)
    assert origin_of(checkout) == Origin()


def test_the_users_files_travel_and_the_words_follow_them(sent_file: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    taken, words = take([f"{sent_file}:SENT", "--set", f"labeled_names=@{tmp_path}/names.txt", "--seeds", "0"])
    assert words == ("inputs/0-sent.py:SENT", "--set", "labeled_names=@inputs/1-names.txt", "--seeds", "0")
    assert taken.inputs == {"0-sent.py": TABLE_FILE.encode(), "1-names.txt": b"a\nb\n"}
    assert "orchestrator/submit/snapshot.py" in taken.files


def test_a_table_of_ours_travels_with_the_code() -> None:
    taken, words = take(["demo", "--seeds", "0"])
    assert (words, taken.inputs) == (("demo", "--seeds", "0"), {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SubmitError, match=r"cannot read .*gone\.py, which the job needs"):
        take([str(tmp_path / "gone.py")])


def test_a_large_snapshot_is_refused_and_the_largest_files_named(
    monkeypatch: pytest.MonkeyPatch, sent_file: Path
) -> None:
    monkeypatch.setattr(snapshot, "MOST_BYTES", 100_000)
    sent_file.write_text("#" * 2**20)
    with pytest.raises(SubmitError, match=r"the largest are inputs/0-sent\.py \(1\.0 MiB\)"):
        take([str(sent_file)])


def test_the_digest_tells_apart_what_differs_and_the_images_only_the_code() -> None:
    first = Snapshot({"trainer/a.py": b"1", "inputs/0-t.py": b"x"}, Origin())
    other = first.with_files({"inputs/0-t.py": b"y"})
    moved = Snapshot({"trainer/a.p": b"y1", "inputs/0-t.py": b"x"}, Origin())
    assert len({first.digest, other.digest, moved.digest}) == 3
    assert first.code_digest == other.code_digest != moved.code_digest


def test_the_archive_is_the_same_bytes_and_gives_every_file_back(tmp_path: Path) -> None:
    files = {"trainer/b.py": b"2", "trainer/a.py": b"1"}
    packed = Snapshot(files, Origin()).zipped()
    assert packed == Snapshot(dict(reversed(files.items())), Origin()).zipped()
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.py")} == files


def test_a_table_that_needs_what_does_not_travel_is_refused(sent_file: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("N = 1")
    sent_file.write_text(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport beside\n{TABLE_FILE}")
    taken, words = take([str(sent_file)])
    refuse_other_trials(taken, words, trial_ids(sent_file))  # the folder is still there
    (tmp_path / "beside.py").unlink()
    with pytest.raises(SubmitError, match="cannot be read from what would travel: .*beside"):
        refuse_other_trials(taken, words, [])


def test_a_table_that_depends_on_the_folder_is_refused(sent_file: Path) -> None:
    text = TABLE_FILE.replace("num_steps=12", "num_steps=12 if 'inputs' in __file__ else 18")
    sent_file.write_text(text)
    taken, words = take([str(sent_file)])
    with pytest.raises(SubmitError, match="gives other trials elsewhere"):
        refuse_other_trials(taken, words, trial_ids(sent_file))


def trial_ids(path: Path) -> list[str]:
    from experiments.table import find_table

    return [cell.trial_id for cell in find_table(str(path), {}).cells()]
