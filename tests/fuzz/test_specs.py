"""A spec.json as `mixgrid train` takes it: the trial it says, or one message that names the file and the field."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.hammer import (
    ANY_JSON,
    EFFORTS,
    Within,
    assert_one_message,
    damaged,
    hammer,
    mixgrid,
    mutated_json,
    places_in,
    tried,
)
from trainer.spec import CowMask, Folders, Mix, Synthetic, TinyNetwork, TrialSpec, canonical_json, read_spec

FOLDERS = Folders(
    name="mine", images="i", labels="l", class_names=("a", "b"), height=8, width=8, label_ids={7: 0, 8: 1}
)
SPECS = (
    TrialSpec(),
    TrialSpec(dataset=Synthetic(), network=TinyNetwork(), method=Mix(mask=CowMask()), label_fraction=Fraction(1, 8)),
    TrialSpec(dataset=FOLDERS, label_fraction=Fraction(1, 2), labeled_names=("x", "y")),
)
FULL = [spec.model_dump(mode="json") for spec in SPECS]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the spec is written."""
    return tmp_path / "spec.json"


def reads_or_refuses(file: Path, content: bytes) -> TrialSpec | None:
    """What is read is a trial with an identity; what is refused names the file."""
    file.write_bytes(content)
    with Within(2):
        spec, refusal = tried(lambda: read_spec(file), ValueError)
    if spec is None:
        assert str(file) in refusal
        return None
    assert TrialSpec.model_validate_json(canonical_json(spec)).trial_id == spec.trial_id
    return spec


@EFFORTS
def test_random_json_is_no_spec_or_says_what_it_is(effort: int, file: Path) -> None:
    hammer(lambda body: reads_or_refuses(file, json.dumps(body).encode()), ANY_JSON, examples=80, effort=effort)


@EFFORTS
def test_random_and_damaged_bytes_are_read_or_refused(effort: int, file: Path) -> None:
    content = json.dumps(FULL[1]).encode()
    hammer(lambda given: reads_or_refuses(file, given), damaged(content), examples=100, effort=effort)


YES = ("1", "true", "t", "yes", "y", "on")
NO = ("0", "false", "f", "no", "n", "off")


def agrees(given: Any, read: Any) -> bool:
    """Whether a spec says what was given, wherever it was given: "5", 5 and 5.0 are one, and so are "yes" and true."""
    if isinstance(given, dict):
        return isinstance(read, dict) and all(key in read and agrees(value, read[key]) for key, value in given.items())
    if isinstance(given, list):
        return isinstance(read, list) and len(given) == len(read) and all(map(agrees, given, read))
    if isinstance(read, bool):
        return str(given).lower().removesuffix(".0").removeprefix("-") in (YES if read else NO)
    if given is None or read is None:
        return given is read
    exact = given if isinstance(given, int | float) else str(given).strip()
    number, _ = tried(lambda: Fraction(exact), (ValueError, ArithmeticError))
    if number is None or number == Fraction(str(read)):
        return number is not None or bool(given == read)
    return isinstance(read, float) and float(number) == read


@EFFORTS
def test_a_spec_that_is_accepted_says_what_the_file_says(effort: int, file: Path) -> None:
    def check(body: Any) -> None:
        spec = reads_or_refuses(file, json.dumps(body).encode())
        if spec is not None:
            read = spec.model_dump(mode="json")
            body["labeled_names"] = sorted(body.get("labeled_names") or []) or None
            assert agrees(body, read | {"labeled_names": read["labeled_names"] or None}), (body, read)

    hammer(check, st.sampled_from(FULL).flatmap(mutated_json), examples=250, effort=effort)


@pytest.mark.parametrize(
    "content",
    [
        b'{"seed": 1, "seed": 2}',
        b'{"optimizer": {"learning_rate": 1, "learning_rate": 2}}',
        b'{"optimizer": {"learning_rate": NaN}}',
        b'{"optimizer": {"learning_rate": 1e999}}',
        b'{"num_steps": ' + b"9" * 30 + b"}",
        b'{"num_steps": ' + b"9" * 5000 + b"}",
        b'{"num_steps": 6.5}',
        b'{"num_steps": "six"}',
        b'{"seed": ' + b"[" * 100_000,
        b'{"dataset": ' * 5000,
        b'{"dataset": {"kind": "camvid", "train_split": "\\ud800"}}',
        b'{"dataset": {"kind": "camvid", "train_split": "a\\u0000b"}}',
        b"\xff\xfe{}",
        b"\xf0\x28\x8c\x28",
        b"",
    ],
    ids=lambda content: str(content[:40]),
)
def test_a_spec_of_which_no_trial_can_come_is_refused_by_its_file(content: bytes, file: Path) -> None:
    assert reads_or_refuses(file, content) is None


def test_every_field_taken_out_or_misspelt_is_seen(file: Path) -> None:
    for place in places_in(FULL[2]):
        if isinstance(place[-1], str) and place[:2] != ("dataset", "label_ids"):
            body = json.loads(json.dumps(FULL[2]))
            part = body
            for key in place[:-1]:
                part = part[key]
            part[f"{place[-1]}x"] = part.pop(place[-1])
            assert reads_or_refuses(file, json.dumps(body).encode()) is None, place


@pytest.mark.parametrize("content", [b"[" * 9999, b'{"seed": 1, "seed": 2}', b"\xff", b'{"num_steps": 1e99}', b"null"])
def test_the_command_refuses_a_bad_spec_before_anything_else(content: bytes, file: Path, tmp_path: Path) -> None:
    file.write_bytes(content)
    told = mixgrid("train", str(file), "--storage", str(tmp_path / "runs"))
    assert_one_message(told)
    assert "spec.json" in told.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "mean"), ("a", ""), ("a", " "), ("a", "x" * 101), ("a", "b\n")])
def test_class_names_that_results_could_not_tell_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="class name"):
        Folders(name="mine", images="i", labels="l", class_names=names, height=8, width=8)
