"""What every part of a spec is made of: frozen values, kinds of numbers, and readers that refuse nonsense."""

import json
from collections import Counter
from fractions import Fraction
from math import ceil
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer


class Part(BaseModel):
    """A frozen piece of a spec: unknown fields are errors, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def parse_fraction(given: object) -> Fraction:
    """Read a label fraction such as "1/8", "1" or a Fraction.

    Raises: ValueError unless it is one whole number over another, above 0 and at most 1.
    """
    text = str(given).strip()
    numerator, slash, denominator = text.partition("/")
    denominator = denominator if slash else "1"
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in (numerator, denominator)):
        raise ValueError(f"label fraction {text[:40]!r} is not a whole number over a whole number, such as 1/8 or 1")
    if int(denominator) == 0 or not 0 < Fraction(int(numerator), int(denominator)) <= 1:
        raise ValueError(f"label fraction {text!r} is outside (0, 1]: give 1/30, 1/8, 1/4, 1/2 or 1, say")
    return Fraction(int(numerator), int(denominator))


def parse_json(text: str | bytes) -> Any:
    """Read JSON in which no object names a field twice: of two values one would silently count.

    Raises: ValueError.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        doubles = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"fields are given twice: {', '.join(map(repr, doubles))}")
    return fields


def refuse_bad_class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names back. Raises: ValueError where results could not tell them apart, or from the mean's line."""
    if len(set(names)) != len(names) or MEAN in names:
        raise ValueError(f"class names differ from each other, and none is {MEAN!r}: {', '.join(names)[:200]}")
    if not all(name.strip() and name.isprintable() and len(name) <= 100 for name in names):
        raise ValueError("a class name is printable text of 1 to 100 characters")
    return names


MEAN = "mean"
"""What results call the line of the mean over classes."""
LabelFraction = Annotated[Fraction, BeforeValidator(parse_fraction), PlainSerializer(str, return_type=str)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=8, le=8192)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
ClassNames = Annotated[tuple[str, ...], AfterValidator(refuse_bad_class_names)]
FolderName = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


def count_labeled(fraction: Fraction, num_images: int) -> int:
    """ceil(fraction x num_images): 100, 372, 744 and 1488 of Cityscapes' 2975 at 1/30, 1/8, 1/4 and 1/2."""
    return ceil(fraction * num_images)
