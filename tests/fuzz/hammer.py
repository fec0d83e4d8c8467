"""How the tests of this folder hammer: a few draws that are always the same, or many new ones under `-m chaos`."""

import contextlib
import io
import json
import string
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
LONG = 20
EFFORTS = pytest.mark.parametrize(
    "effort", [pytest.param(1, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.chaos)]
)


def hammer(check: Callable[..., None], *strategies: st.SearchStrategy[Any], examples: int, effort: int) -> None:
    """Call `check` with many draws; the quick ones are always the same."""

    def one(drawn: tuple[Any, ...]) -> None:
        check(*drawn)

    run = settings(
        max_examples=examples * effort,
        deadline=None,
        database=None,
        derandomize=effort == 1,
        suppress_health_check=list(HealthCheck),
    )
    run(given(st.tuples(*strategies))(one))()


def tried(act: Callable[[], T], refusal: type[Exception] | tuple[type[Exception], ...]) -> tuple[T | None, str]:
    """What an act gives, or None and the message with which it was refused; any other error is raised."""
    try:
        return act(), ""
    except refusal as error:
        return None, str(error) or "nothing was said"


class Told(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def mixgrid(*words: str) -> Told:
    """Run the real command in this process, as a shell would see it; an error that it does not map is raised here."""
    from orchestrator.cli.app import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["mixgrid", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        sys.argv = before
    return Told(code, out.getvalue(), err.getvalue())


def assert_one_message(told: Told) -> None:
    """A refusal: exit code 2, one message of readable length, no trace, nothing on the output."""
    assert told.code == 2, told
    assert told.err.strip()
    assert len(told.err) < 6000
    assert "Traceback" not in told.err + told.out


class Within:
    """Fails where the body takes longer: nothing of what a person types may hang."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *error: object) -> None:
        assert error[0] is not None or time.monotonic() - self._started < self._seconds


# --- what is drawn ------------------------------------------------------------------------------------------------

HUGE = ("9" * 30, "9" * 4000, "9" * 5000, "1e400", "-1e400", str(2**31), str(2**63), "1" + "0" * 400)
NASTY_WORDS = (
    *HUGE,
    *(
        "",
        " ",
        "=",
        "==",
        "@",
        "@/nowhere",
        "@/",
        "@.",
        "null",
        "true",
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "-1",
        "0",
    ),
    *("0.5", "1/0", "1/8", "[]", "{}", "[[]]", '{"kind": "mix"}', '{"kind": []}', '{"a": 1, "a": 2}', "[1, 2", '"'),
    *("[" * 500 + "]" * 500, "[" * 5000, '{"a":' * 900 + "1" + "}" * 900, "\x00", "\udcff", "\u202e", "ſ", "٣", "½"),
    *("../..", "[/]", "[bold]", "\\", "'", "\n", "a" * 5000, "💥", "cityscapes", "folders", "tiny", "complex", "mix"),
)
SIGNS = st.sampled_from(string.printable + "ß½٣中\u2028\u202e💥\x00\x7f") | st.characters()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NASTY_JSON = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "5", "0.5", "1/8", "a" * 300, "../../x", "\x00", "mean", "mix", "student", "teacher", [], [[]], {}, [1, 2]),
    *({"kind": "mix"}, {"kind": "folders"}, [0.5, None], [[1, 2], [3]], [[-1]], [None], ["a", "a"]),
)
ANY_JSON = st.sampled_from(NASTY_JSON) | JSON


def mutated(text: str) -> st.SearchStrategy[str]:
    """A text with a few signs put in, taken out or replaced."""

    def change(edits: list[tuple[float, str, int]]) -> str:
        changed = text
        for place, sign, kind in edits:
            at = int(place * (len(changed) + 1))
            changed = changed[:at] + (sign if kind else "") + changed[at + (kind != 1) :]
        return changed

    place = st.floats(0, 1, exclude_max=True)
    return st.lists(st.tuples(place, SIGNS, st.integers(0, 2)), min_size=1, max_size=4).map(change)


def places_in(body: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value, the whole left out."""
    items: list[tuple[Any, Any]] = []
    if isinstance(body, dict):
        items = list(body.items())
    elif isinstance(body, list):
        items = list(enumerate(body))
    return [place for key, value in items for place in ((*at, key), *places_in(value, (*at, key)))]


def changed_at(body: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of a JSON value in which `change(container, key)` was done at a place."""
    copy = json.loads(json.dumps(body))
    container = copy
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return copy


@st.composite
def mutated_json(draw: st.DrawFn, body: Any, *, most: int = 2) -> Any:
    """A JSON value with something replaced, taken out, given twice or moved to another place, up to `most` times."""
    for _ in range(draw(st.integers(1, most))):
        places = places_in(body)
        if not places:
            return body
        place = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add", "nudge"]))
        value = draw(ANY_JSON)

        def change(container: Any, key: Any, kind: str = kind, value: Any = value) -> None:
            if kind == "remove":
                del container[key]
            elif kind == "add" and isinstance(container, list):
                container.insert(key, container[key])
            elif kind == "nudge" and type(container[key]) in (int, float):
                container[key] += 1 if type(container[key]) is int else 0.01
            else:
                container[key] = value

        body = changed_at(body, place, change)
    return body


@st.composite
def damaged(draw: st.DrawFn, content: bytes, *, others: tuple[bytes, ...] = ()) -> bytes:
    """Bytes that were cut, flipped, lengthened, emptied, made up, or are those of another file."""
    kind = draw(st.sampled_from(["flip", "flip", "cut", "append", "other", "random", "zero"]))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    match kind:
        case "flip":
            return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
        case "cut":
            return content[:at]
        case "append":
            return content + draw(st.binary(min_size=1, max_size=20))
        case "zero":
            return content[:at] + bytes(len(content) - at)
        case "other" if others:
            return draw(st.sampled_from(others))
    return draw(st.binary(max_size=60))
