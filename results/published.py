"""Published numbers as data, each with the place where it was measured. Knows nothing of our own runs.

Scores are decimals in percent, digit for digit as printed, so that "58.8" stays "58.8".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

Status = Literal["reported", "not reported", "not applicable"]


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One cell of a published table; `mean` and `std` in percent, None where the table prints none."""

    row: str
    fraction: Fraction
    status: Status
    mean: Decimal | None
    std: Decimal | None
    n: int | None
    source: str

    @property
    def text(self) -> str:
        """The cell as the paper prints it."""
        if self.mean is None:
            return "-" if self.status == "not reported" else "N/A"
        return f"{self.mean}" if self.std is None else f"{self.mean} ± {self.std}"


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A published table; `names` gives the labels under which a row of ours means the same method."""

    citation: str
    fractions: tuple[Fraction, ...]
    names: Mapping[str, tuple[str, ...]]
    scores: tuple[PublishedScore, ...]

    def find(self, label: str, fraction: Fraction) -> PublishedScore | None:
        """The published cell of a row with this label (upper and lower case are one), None where there is none."""
        folded = label.casefold()
        for score in self.scores:
            if score.fraction == fraction and folded in (name.casefold() for name in self.names[score.row]):
                return score
        return None


def published_table(key: str) -> PublishedTable:
    """The published table with this key. Raises: ValueError naming the keys that there are."""
    if key not in PUBLISHED:
        raise ValueError(f"no published table {key!r}: results/published.py has {', '.join(sorted(PUBLISHED))}")
    return PUBLISHED[key]


def _score(row: str, fraction: Fraction, printed: str, *, n: int | None, source: str) -> PublishedScore:
    if printed in ("-", "N/A"):
        status: Status = "not reported" if printed == "-" else "not applicable"
        return PublishedScore(row, fraction, status, None, None, None, source)
    mean, _, std = printed.partition("±")
    return PublishedScore(row, fraction, "reported", Decimal(mean), Decimal(std) if std else None, n, source)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as transcribed: the printed cells in order, runs behind each mean (None where not known), other labels."""

    name: str
    printed: tuple[str, ...]
    n: int | None
    source: str
    also: tuple[str, ...] = ()


def _table(citation: str, fractions: tuple[Fraction, ...], rows: tuple[_Row, ...]) -> PublishedTable:
    scores = tuple(
        _score(row.name, fraction, printed, n=row.n, source=row.source)
        for row in rows
        for fraction, printed in zip(fractions, row.printed, strict=True)
    )
    return PublishedTable(citation, fractions, {row.name: (row.name, *row.also) for row in rows}, scores)


_COMPLEXMIX_ROWS = (
    _Row(
        "DeepLab-V2",
        ("43.84", "54.84", "60.08", "63.02", "66.19"),
        None,
        "believed to be the baseline row of the ClassMix paper (arXiv:2007.07936), whose full text was not read",
        ("Supervised", "DeepLab-V2 (supervised)", "Supervised (DeepLab-V2)"),
    ),
    _Row(
        "Adversarial",
        ("-", "58.8", "62.3", "65.7", "N/A"),
        None,
        "Hung et al., BMVC 2018 (arXiv:1802.07934)",
        ("Adversarial (Hung et al.)", "AdvSemiSeg"),
    ),
    _Row(
        "s4GAN",
        ("-", "59.3", "61.9", "-", "N/A"),
        None,
        "Mittal et al. (s4GAN); ImageNet weights",
    ),
    _Row(
        "DST-CBC",
        ("48.7", "60.5", "64.4", "-", "N/A"),
        None,
        "README of the authors' code, branch dst-cbc; best evaluation on val, 513x1025",
    ),
    _Row(
        "French et al.",
        ("51.20", "60.34", "63.87", "-", "N/A"),
        5,
        "README of the authors' code and paper, 5 runs; ImageNet weights, teacher, last epoch",
        ("CutMix", "French et al. (CutMix)", "CutMix (French et al.)"),
    ),
    _Row(
        "ClassMix",
        ("54.07", "61.35", "63.63", "66.29", "N/A"),
        None,
        "Olsson et al. (arXiv:2007.07936); 3 splits by a summary of the paper, whose full text was not read",
    ),
    _Row(
        "ComplexMix",
        ("53.88±0.56", "62.25±1.22", "64.07±0.46", "66.77±0.83", "N/A"),
        5,
        "the paper itself (arXiv:2101.10156), section 4: each experiment repeated 5 times",
        ("Ours (ComplexMix)",),
    ),
)

_FRACTIONS = (Fraction(1, 30), Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))

PUBLISHED: Mapping[str, PublishedTable] = {
    "complexmix_table1": _table("ComplexMix, arXiv:2101.10156, Table 1", _FRACTIONS, _COMPLEXMIX_ROWS),
}
