"""Names that would lead elsewhere or cannot be a file's: nothing is read or written outside the storage folder."""

import os
from pathlib import Path

import pytest
from hypothesis import strategies as st
from PIL import Image

from experiments.table import Row, Table, TableError
from orchestrator.cli.common import outputs_folder
from orchestrator.mirror import metric_word
from tests.fuzz.hammer import EFFORTS, NASTY_WORDS, SIGNS, assert_one_message, hammer, mixgrid, mutated, tried
from tests.fuzz.test_words import DEMO
from trainer.data.cache import open_cache
from trainer.data.described import folders_layout
from trainer.records import attempt_path, trial_path
from trainer.spec import NAMED_METHODS, Folders, Supervised, TrialSpec
from trainer.storage import Storage

WAYS_OUT = (
    *("..", "../x", "a/../../x", "/etc/passwd", "//x", "a//b", ".", "./a", "a/", "~", "~root", "C:\\x", "..\\x"),
    *(
        "a\x00b",
        "\x00",
        "a\nb",
        "x" * 300,
        "ä",
        "中" * 100,
        "💥",
        "..%2f..",
        "%2e%2e",
        ".hidden",
        "-rf",
        " ",
        "",
    ),
)
names = st.sampled_from([*WAYS_OUT, *NASTY_WORDS]) | st.text(SIGNS, max_size=12) | mutated("complexmix-0123456789ab")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A storage two folders deep, with something beside it that is nobody's business."""
    (tmp_path / "secret").write_bytes(b"secret")
    storage = Storage(str(tmp_path / "deep" / "runs"))
    storage.write("trials/x/result.json", b"{}")
    return storage


def files_outside(storage: Storage) -> set[str]:
    """Every file below the test's folder that is not in the storage."""
    top = Path(storage.locate("x")).parents[2]
    return {str(path) for path in top.rglob("*") if path.is_file() and not path.is_relative_to(storage.locate("."))}


@EFFORTS
def test_no_name_of_a_trial_or_attempt_leads_out_of_the_storage(effort: int, storage: Storage) -> None:
    before = files_outside(storage)

    def check(trial: str, attempt: str, file: str) -> None:
        for path in (lambda: trial_path(trial, file), lambda: attempt_path(trial, attempt, file)):
            found, _ = tried(path, ValueError)
            if found is None:
                continue
            for act in (storage.read, storage.exists, lambda p: storage.write(p, b"x"), storage.remove):
                try:
                    assert act(found) != b"secret"
                except (ValueError, OSError) as error:
                    assert str(error)  # noqa: PT017  (either outcome is allowed)
        assert files_outside(storage) == before

    hammer(check, names, names, names, examples=120, effort=effort)


def test_an_attempt_that_is_no_text_is_named_with_its_folder(storage: Storage) -> None:
    os.makedirs(os.fsencode(storage.locate("trials/x/attempts/")) + b"\xff\xfe")  # noqa: PTH103  (a name of bytes)
    with pytest.raises(ValueError, match="trials/x/attempts"):
        storage.names("trials/x/attempts")


@EFFORTS
def test_a_tables_files_lie_in_its_own_folder_or_it_is_refused(effort: int, storage: Storage) -> None:
    def check(name: str) -> None:
        fields = (DEMO.frame, (Row("A", Supervised()),), DEMO.fractions, (0,))
        table, refusal = tried(lambda: Table(name, "Mine", *fields), TableError)
        if table is None:
            assert "name" in refusal
            return
        folder = outputs_folder(storage, table)
        assert folder.parent == Path(storage.locate("tables"))
        assert folder.name == name
        folder.mkdir(parents=True, exist_ok=True)

    hammer(check, names | mutated("table1"), examples=150, effort=effort)


@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_table_named_after_a_way_out_is_one_message(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from experiments.demo import DEMO\nfrom dataclasses import replace\n"
        f"MINE = replace(DEMO, name={name!r})\n"
    )  # fmt: skip
    told = mixgrid("plan", str(path), "--storage", str(tmp_path / "runs"))
    assert_one_message(told)
    assert ", name:" in told.err


def test_every_method_word_is_a_plain_name_of_a_folder() -> None:
    for method in NAMED_METHODS.values():
        trial_id = TrialSpec(method=method).trial_id
        assert trial_path(trial_id) == f"trials/{trial_id}"
        assert trial_id.replace("-", "").isalnum()
        assert trial_id.isascii()


@EFFORTS
def test_names_of_datasets_splits_and_classes_write_below_the_cache_alone(effort: int, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / "train").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / kind / "train" / "a.png")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}

    def check(name: str, split: str, classes: tuple[str, str]) -> None:
        fields = {"name": name, "images": "images", "labels": "labels", "class_names": classes, "train_split": split}
        dataset, refusal = tried(lambda: Folders.model_validate({**fields, "height": 8, "width": 8}), ValueError)
        if dataset is None:
            assert refusal
            return
        layout = folders_layout(dataset, tmp_path / "data")
        place = tmp_path / "cache"
        opened = lambda: open_cache(layout, dataset.train_split, height=8, width=8, folder=place)  # noqa: E731
        tried(opened, (ValueError, OSError))
        assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
        assert all(path.parent == place for path in place.rglob("*"))

    plain = st.just("train") | names
    hammer(check, st.just("mine") | names, plain, st.tuples(names, names), examples=120, effort=effort)


@EFFORTS
def test_a_class_name_is_a_word_that_mlflow_takes(effort: int) -> None:
    from mlflow.utils.validation import _validate_metric_name

    def check(first: str, second: str) -> None:
        words = [f"student/iou/{metric_word(name, index)}" for index, name in enumerate((first, second))]
        for word in words:
            _validate_metric_name(word)
        assert len(set(words)) == 2 or first == second

    some = st.text(SIGNS.filter(str.isprintable), min_size=1, max_size=20).filter(str.strip)
    hammer(check, some | st.sampled_from(["..", "a/b", "a&b", "a|b", "car"]), some, examples=60, effort=effort)
