"""Seals: what fits is found at sight or by parsing, and nothing that was changed fits."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.hammer import damaged
from trainer import seals
from trainer.seals import BrokenSeal, sealed, unsealed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "sha256"), VALUES, max_size=5)
NESTED = {"confusion": [[1, 2], [3, 4]], "name": "traffic light", "nothing": [], "deep": {"sha256": "no seal"}}


def slow_text(content: bytes) -> bytes | None:
    """The canonical text by the obvious way, None where the seal is broken."""
    try:
        body = json.loads(content)
        seal = body.pop("sha256")
        text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return text if hashlib.sha256(text).hexdigest() == seal else None


def opened(content: bytes) -> bytes | None:
    """The text that is taken for sealed, None where it is refused."""
    try:
        return unsealed(content)
    except BrokenSeal:
        return None


@settings(deadline=None, max_examples=200)
@given(BODIES)
def test_what_was_sealed_comes_back(body: dict[str, Any]) -> None:
    assert json.loads(sealed(body).decode()) == {**body, "sha256": json.loads(sealed(body))["sha256"]}
    assert unsealed(sealed(body)) == slow_text(sealed(body))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_as_by_parsing(data: st.DataObject) -> None:
    content = sealed(data.draw(st.sampled_from([NESTED, {"a": 'says "so"'}, {"z": 1, "b": "x y"}])))
    found = data.draw(damaged(content, others=(sealed({"a": 1}), b"", b"[]", b'{"sha256": ""}')))
    assert opened(found) == slow_text(found)


@pytest.mark.parametrize("body", [{"a": [1, 2], "zz": "x y"}, {"zz": 1}, {"a": 1}, {}])
@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_plain_records_are_opened_at_sight_wherever_their_seal_stands(
    body: dict[str, Any], indent: int | None, at: int
) -> None:
    fields = sorted(body.items())
    seal = ("sha256", json.loads(sealed(body))["sha256"])
    content = json.dumps(dict([*fields[:at], seal, *fields[at:]]), indent=indent).encode()
    assert seals._unsealed_at_sight(content) == slow_text(content) is not None


def test_another_seal_inside_is_looked_at_closely() -> None:
    assert seals._unsealed_at_sight(sealed(NESTED)) is None
    assert unsealed(sealed(NESTED)) == slow_text(sealed(NESTED)) is not None


def test_white_space_inside_a_name_counts() -> None:
    content = sealed({"name": "traffic light"})
    assert opened(content.replace(b"traffic light", b"trafficlight")) is None
    assert opened(content.replace(b"traffic light", b"traffic  light")) is None


def test_escaped_quotes_are_looked_at_closely() -> None:
    content = sealed({"message": 'he said: "so be it"', "step": 3})
    assert seals._unsealed_at_sight(content) is None
    assert json.loads(unsealed(content)) == {"message": 'he said: "so be it"', "step": 3}


def test_whole_numbers_stand_on_one_line_and_brackets_in_a_text_stay_as_they_are() -> None:
    content = sealed({"counts": [[1, 2], [3, 4]], "text": "[ 1, 2 ] and [\n 3 ]"})
    assert b"[1,2],\n  [3,4]" in content
    assert json.loads(content)["text"] == "[ 1, 2 ] and [\n 3 ]"


def test_a_seal_that_lost_its_quote_is_refused() -> None:
    content = sealed({"a": 1, "z": 2}).replace(b" ", b"").replace(b"\n", b"")
    assert opened(content) is not None
    at = content.index(b'"sha256":"') + len(b'"sha256":"') + 64
    assert opened(content[:at] + b"x" + content[at + 1 :]) is None


def test_what_is_no_record_at_all_says_so() -> None:
    for content in (b"", b"[]", b"{}", b"5", b"[" * 100_000, b'{"sha256": ', b"\xff\xfe"):
        with pytest.raises(BrokenSeal, match="is not a sealed record"):
            unsealed(content)
