"""Words that people type: a valid table, or one message that says what was given and what is allowed."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from experiments import TABLES
from experiments.table import Frame, Row, Table, TableError, field_paths, find_table, parse_seeds, parse_setting
from orchestrator.cli.grid import cells_named
from orchestrator.resources import PlacementError, check_batches
from tests.fuzz.hammer import (
    EFFORTS,
    NASTY_JSON,
    NASTY_WORDS,
    SIGNS,
    Within,
    assert_one_message,
    hammer,
    mixgrid,
    mutated,
    tried,
)
from trainer.spec import Mix, Part, Supervised, TrialSpec

DEMO = find_table("demo", TABLES).selected(rows="Supervised,ComplexMix", fractions="1/4", seeds="0")
PATHS = sorted({path for cell in DEMO.cells() for path in field_paths(cell.spec)})
VALID = (
    "num_steps=600",
    "evaluation.every=7",
    "method.mask.block_counts=[2, 4]",
    "method.teacher.ema_decay=0.9",
    "network.kind=deeplab_v2",
    "network.backbone=resnet50",
    "dataset.kind=cityscapes",
    'method={"kind": "mix", "mask": {"kind": "cow", "sigma_min": 2}}',
    "view={}",
    "initial_weights=coco",
    "split_seed=3",
    'labeled_names=["a", "b"]',
    "optimizer.learning_rate=1e-3",
    "precision=float64",
)


def assert_readable(refusal: str) -> None:
    assert ("--set" in refusal) or ("table demo" in refusal)
    assert len(refusal) < 4000


# --- --set --------------------------------------------------------------------------------------------------------

settings_words = st.one_of(
    st.tuples(st.sampled_from(PATHS), st.sampled_from(NASTY_WORDS)).map("=".join),
    st.sampled_from(VALID).flatmap(mutated),
    st.sampled_from(VALID),
    st.text(SIGNS, max_size=30),
    st.tuples(st.text(SIGNS, max_size=10), st.sampled_from(NASTY_WORDS)).map("=".join),
)


def value_at(spec: TrialSpec, path: str) -> Any:
    value: Any = spec
    for name in path.split("."):
        value = getattr(value, name, None)
    return value.model_dump(mode="json") if isinstance(value, Part) else value


def is_valid_or_refused(words: list[str]) -> None:
    with Within(3):
        table, refusal = tried(lambda: DEMO.changed(words), TableError)
    if table is None:
        assert_readable(refusal)
        return
    for cell in table.cells():
        assert TrialSpec.model_validate_json(cell.spec.model_dump_json()).trial_id == cell.trial_id


@EFFORTS
def test_any_setting_gives_a_valid_table_or_one_message(effort: int) -> None:
    hammer(is_valid_or_refused, st.lists(settings_words, min_size=1, max_size=3), examples=250, effort=effort)


@EFFORTS
def test_a_setting_that_is_accepted_is_the_value_of_every_cell_that_has_it(effort: int) -> None:
    def check(path: str, number: float) -> None:
        table, refusal = tried(lambda: DEMO.changed([f"{path}={number!r}"]), TableError)
        if table is None:
            assert_readable(refusal)
            return
        found = {value_at(cell.spec, path) for cell in table.cells()} - {None}
        assert len(found) <= 1
        assert all(value == number for value in found)

    numbers = st.integers(-2, 2**33) | st.floats(allow_nan=False) | st.sampled_from([0.5, 8, 64, 1e-3])
    hammer(check, st.sampled_from(PATHS), numbers, examples=200, effort=effort)


def test_every_nasty_value_of_every_field_is_accepted_or_refused() -> None:
    for path in ("num_steps", "dataset", "dataset.height", "method", "method.mask.kind", "labeled_names", "view.flip"):
        for value in NASTY_WORDS:
            is_valid_or_refused([f"{path}={value}"])


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xff\xfe\x00", b".\n", b"/\n", b"leftImg8bit\n", b"a\n" * 3, b"a\0b"]
)
def test_a_list_of_names_is_read_or_refused_with_its_place(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    setting, refusal = tried(lambda: parse_setting(f"labeled_names=@{path}"), TableError)
    assert str(path) in refusal if setting is None else all(setting[1])


def test_a_field_given_twice_is_not_one_of_both() -> None:
    with pytest.raises(TableError, match="optimizer"):
        DEMO.changed(['optimizer={"learning_rate": 1, "learning_rate": 2}'])


# --- --rows, --fractions, --seeds ---------------------------------------------------------------------------------

seed_words = st.one_of(
    st.sampled_from(["0-1000000000000", "0-9999", "0-10000", "4-0", "-", "--", "0-", "-0", ",", "0,,1", "0-4-2", "٣"]),
    st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**13)), max_size=4).map(
        lambda pairs: ",".join(f"{low}-{high}" for low, high in pairs)
    ),
    st.text("0123456789-, ", max_size=12),
    st.sampled_from(NASTY_WORDS),
)


@EFFORTS
def test_any_selection_gives_a_part_of_the_table_or_one_message(effort: int) -> None:
    def check(rows: str | None, fractions: str | None, seeds: str | None) -> None:
        with Within(3):
            part, refusal = tried(lambda: DEMO.selected(rows, fractions, seeds), TableError)
        if part is None:
            assert any(word in refusal for word in ("--rows", "--fractions", "--seeds", "leaves no cell"))
            assert len(refusal) < 3000
            return
        assert {row.label for row in part.rows} <= {row.label for row in DEMO.rows}
        assert set(part.fractions) <= set(DEMO.fractions)
        assert 0 < len(part.seeds) <= 10_000
        assert list(part.seeds) == sorted(set(part.seeds))

    rows = st.none() | st.sampled_from(["Supervised", "complexmix,SUPERVISED", "Supervised,", *NASTY_WORDS])
    fractions = st.none() | st.sampled_from(["1/4", "2/8", "1/4,", "0.25", *NASTY_WORDS]) | mutated("1/4,1/30")
    hammer(check, rows, fractions, st.none() | seed_words, examples=200, effort=effort)


@pytest.mark.parametrize("words", ["0-1000000000000", ",".join(f"{i}0000-{i}9999" for i in range(2000)), "9" * 5000])
def test_seeds_beyond_measure_take_neither_time_nor_memory(words: str) -> None:
    with Within(0.5), pytest.raises(TableError, match="--seeds"):
        parse_seeds(words)


@pytest.mark.parametrize("word", ["9" * 5000, "1/" + "9" * 5000, "٣/٨", "1/8/9", "0.125", ""])
def test_a_fraction_that_is_none_is_told_how_one_looks(word: str) -> None:
    with Within(0.5), pytest.raises(TableError, match="--fractions .* such as 1/8 or 1$"):
        DEMO.selected(fractions=word)


def test_a_batch_beyond_measure_is_refused_at_once() -> None:
    (cell,) = DEMO.changed(["labeled_batch=50000001"]).selected(rows="Supervised").cells()
    with Within(0.5), pytest.raises(PlacementError, match="does not divide labeled_batch"):
        check_batches([cell.spec], workers=2)


# --- tables of users ----------------------------------------------------------------------------------------------

FIELDS = {
    "name": "mine",
    "title": "Mine",
    "frame": DEMO.frame,
    "rows": (Row("A", Supervised()), Row("B", Mix(), group=2)),
    "fractions": (Fraction(1, 8), Fraction(1)),
    "seeds": (0, 1),
    "published": None,
    "overrides": (),
}
ROW = {"label": "A", "method": Mix(), "group": 1, "deviations": (("num_steps", 7),), "fractions": (Fraction(1, 8),)}
WRONG = (
    *NASTY_JSON,
    *("../../x", "a/b", "..", "x" * 500, "a\nb", (0, 0), (0.5,), ("0",), (-1,), (2**32,), (True,), range(3)),
    *((Fraction(1, 2), Fraction(2, 4)), (Fraction(3, 2),), (0.125,), ("1/8",), Fraction(1, 8), (Row("a", Mix()),) * 2),
    *(
        (Row("a", Mix()), Row("A", Mix())),
        (("num_step", 3),),
        (("seed", 3),),
        (("num_steps",),),
        ((1, 2),),
        (Row,),
        Frame,
    ),
    *(Supervised(), Supervised, Frame(), [Row("a", Mix())], (Row("a", Mix(), fractions=()),), ((), ()), ("a", "b")),
)


def table_of(fields: dict[str, Any], row: dict[str, Any]) -> Table:
    return Table(**{**FIELDS, "rows": (Row(**row), *FIELDS["rows"][1:]), **fields})  # type: ignore[arg-type, misc]


@EFFORTS
def test_a_table_with_something_wrong_in_it_is_valid_or_refused_with_its_name(effort: int) -> None:
    def check(fields: dict[str, Any], row: dict[str, Any]) -> None:
        act = lambda: table_of(fields, {**ROW, **row}).changed([]).selected().cells()  # noqa: E731
        cells, refusal = tried(act, TableError)
        if cells is None:
            assert refusal.startswith(("table", "row", "the selection"))
            return
        assert cells
        assert len({cell.trial_id for cell in cells}) == len(
            {(cell.row, cell.label_fraction, cell.seed) for cell in cells}
        )

    wrong = st.sampled_from(WRONG)
    some_fields = st.dictionaries(st.sampled_from(sorted(FIELDS)), wrong, max_size=1)
    some_row = st.dictionaries(st.sampled_from(sorted(ROW)), wrong, max_size=1)
    hammer(check, some_fields, some_row, examples=300, effort=effort)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", (0, 0)), ("fractions", (Fraction(1, 2), Fraction(2, 4))), ("seeds", (0, True)), ("name", "../../x")],
)
def test_what_would_count_twice_or_lie_elsewhere_is_refused(field: str, value: Any) -> None:
    with pytest.raises(TableError, match=field[:4]):
        table_of({field: value}, ROW)


@pytest.mark.parametrize(
    "path", ["optimizer.learning_rat", "num_step", "method.mask.block_counts", "seed", "label_fraction"]
)
def test_a_deviation_that_would_be_lost_is_refused(path: str) -> None:
    table = table_of({}, {**ROW, "deviations": ((path, 1),)})
    with pytest.raises(TableError, match=f"'A' (deviates in |changes .*){path}"):
        table.cells()


def test_a_row_without_a_cell_leaves_the_others_alone() -> None:
    table = table_of({"fractions": (Fraction(1),)}, {**ROW, "method": Supervised(), "fractions": None})
    assert {cell.row for cell in table.changed(["num_steps=9"]).cells()} == {"A"}  # row B mixes: not at fraction 1
    with pytest.raises(TableError, match="leaves no cell"):
        table.selected(rows="B")


OWN = """
from fractions import Fraction
from experiments.table import Frame, Row, Table
from trainer.spec import Supervised
ROWS = (Row("A", Supervised()),)
T = Table(name="mine", title="Mine", frame=Frame(), rows=ROWS, fractions=(Fraction(1, 8),), seeds=(0,))
"""
FILES = {
    "raises": "1 / 0",
    "exits": "import sys; sys.exit(3)",
    "is no Python": "def (",
    "holds no text": "\x00",
    "has no table": "T = 3",
    "has two tables": OWN + OWN.replace("T = ", "U = "),
    "imports nothing known": "import nowhere",
    "gives wrong kinds": OWN.replace("seeds=(0,)", 'seeds="01"'),
    "lies elsewhere": OWN.replace('"mine"', '"../../x"'),
    "recurses": "def f(): f()\nf()",
    "has a class for a table": "from experiments.table import Table as T",
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_gives_no_table_is_one_message(what: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILES[what])
    told = mixgrid("plan", str(path), "--storage", str(tmp_path / "runs"))
    assert_one_message(told)
    assert str(path) in told.err.replace("\n", "")


@EFFORTS
def test_any_word_for_a_table_is_one_message(effort: int) -> None:
    def check(word: str) -> None:
        table, refusal = tried(lambda: find_table(word, TABLES), TableError)
        assert isinstance(table, Table) or len(refusal) < 2000

    words = (
        st.sampled_from(["demo", "x.py", "x.py:T", ":", ".py", "/", *NASTY_WORDS]) | mutated("demo") | st.text(SIGNS)
    )
    hammer(check, words, examples=80, effort=effort)


# --- cells --------------------------------------------------------------------------------------------------------


@EFFORTS
def test_any_address_names_cells_of_the_table_or_is_refused_with_an_example(effort: int) -> None:
    def check(word: str) -> None:
        found, refusal = tried(lambda: cells_named(DEMO, word), TableError)
        if found is None:
            assert "Supervised@1/4#0" in refusal
            return
        assert found
        assert all(word.casefold() in (c.trial_id, c.name.casefold(), c.name[:-2].casefold()) for c in found)

    names = [name for cell in DEMO.cells() for name in (cell.name, cell.trial_id)]
    words = st.sampled_from([*names, *NASTY_WORDS]) | st.sampled_from(names).flatmap(mutated)
    hammer(check, words, examples=80, effort=effort)


def test_a_row_whose_label_has_the_signs_of_an_address_is_found() -> None:
    table = table_of({"fractions": (Fraction(1, 8),)}, {**ROW, "label": "a#b@c, d"})
    assert [cell.row for cell in cells_named(table, "a#b@c, d@1/8")] == ["a#b@c, d"] * 2
    with pytest.raises(TableError, match="has no cell"):
        cells_named(table, "a")


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "demo", "--set", "dataset=" + "[" * 5000),
        ("plan", "demo", "--set", "num_steps=" + "9" * 4000),
        ("plan", "demo", "--set", "=1"),
        ("plan", "demo", "--set", "num_steps"),
        ("plan", "demo", "--set", "labeled_names=@/"),
        ("plan", "demo", "--set", "optimizer.learning_rate=NaN"),
        ("plan", "demo", "--set", "\udcff=1"),
        ("plan", "demo", "--seeds", "0-1000000000000"),
        ("plan", "demo", "--fractions", "1/" + "9" * 5000),
        ("plan", "demo", "--rows", "[/]"),
        ("plan", "[/nope]"),
        ("plan", "demo", "--nope"),
        ("plan", "demo", "--storage", "nope://x"),
        ("plan", "demo", "--storage", "file://%zz"),
        ("explain", "demo", "[/x]"),
        ("logs", "demo", "x" * 5000),
        ("status", "/dev/null.py"),
        ("table", "demo", "--format", "excel"),
        ("table", "demo", "--policy", "median"),
        ("table", "demo", "--set", "nothing=1"),
        ("run", "demo", "--checkpoint-every", "-1"),
        ("run", "demo", "--cpus-per-worker", "0"),
        ("train", "/"),
        ("data", "synthesize", "--num-train", "-1"),
        ("data", "synthesize", "--height", "9" * 30),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_what_cannot_be_is_one_message_and_exit_code_2(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIXGRID_DEBUG", raising=False)
    assert_one_message(mixgrid(*words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"table": 5}', b'{"table": null, "settings": null, "rows": null, "fractions": null, '
     b'"seeds": null}', b'{"table": "demo", "settings": "ab", "rows": 1, "fractions": [], "seeds": {}}', b"[" * 3000],
)  # fmt: skip
def test_a_damaged_note_of_the_last_run_asks_for_a_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last_run.json").write_bytes(content)
    told = mixgrid("plan", "--storage", str(tmp_path))
    assert_one_message(told)
    assert "known" in told.err or "name one" in told.err
