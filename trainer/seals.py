"""JSON text that carries the digest of everything else it says. Knows no schema.

The seal is SHA-256 over the canonical text of the rest: sorted keys, no spaces, ASCII. What was cut, edited or rotted
no longer fits it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_NUMBERS = re.compile(r"\[\n[\s\d,]*\]")


class BrokenSeal(ValueError):  # noqa: N818  (what was found)
    """A text that is not what was sealed."""


def sealed(body: Mapping[str, Any]) -> bytes:
    """JSON for persons, with the digest of the rest under "sha256"; lists of whole numbers stand on one line."""
    whole = json.dumps({**body, "sha256": _sha256(_canonical(body).encode())}, indent=1, sort_keys=True)
    # A string holds no line break of its own, so that what follows "[" and one is white space, digits and commas only.
    return (_NUMBERS.sub(lambda numbers: "".join(numbers[0].split()), whole) + "\n").encode()


def unsealed(content: bytes) -> bytes:
    """The canonical text of what was sealed, without its seal.

    Raises: BrokenSeal.
    """
    return _unsealed_at_sight(content) or _unsealed_by_parsing(content)


def _unsealed_at_sight(content: bytes) -> bytes | None:
    """The text without white space and seal, where the seal fits that; None where it takes a closer look.

    A fraction of the time of parsing and writing it again. White space that somebody put in is forgiven.
    """
    if b"\\" in content and b'\\"' in content:  # else every second quote ends a string
        return None
    parts = content.split(b'"')
    parts[::2] = b'"'.join(parts[::2]).translate(None, b" \n").split(b'"')
    at = parts.index(b"sha256") if b"sha256" in parts else len(parts)
    if parts[at + 1 : at + 2] != [b":"] or len(parts) < at + 4:
        return None
    before, seal, after = parts[at - 1], parts[at + 2], parts[at + 3]
    rest = before + after[1:] if after.startswith(b",") else before.removesuffix(b",") + after
    text = b'"'.join([*parts[: at - 1], rest, *parts[at + 4 :]])
    return text if seal == _sha256(text).encode() else None


def _unsealed_by_parsing(content: bytes) -> bytes:
    try:
        body = json.loads(content)
        seal = body.pop("sha256")
        text = _canonical(body).encode()
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BrokenSeal(f"is not a sealed record: {error}") from error
    if seal != _sha256(text):
        raise BrokenSeal("was changed after it was written (its sha256 does not fit)")
    return text


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
