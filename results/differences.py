"""A cell against the cell of the reference row, seed by seed. Knows neither tables nor formats."""

from dataclasses import dataclass

from results.aggregate import CellSummary, mean_and_std


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours minus the reference over the `n` seeds that both have, in units of mean IoU [0, 1].

    `std` is the sample's (ddof 1), NaN for one seed; `is_settled` where both cells are, so that it may be printed.
    """

    mean: float
    std: float
    n: int
    is_settled: bool


def paired_difference(cell: CellSummary, reference: CellSummary) -> Difference | None:
    """The mean over seeds of the difference between two cells; None where no seed is in both."""
    of_reference = dict(reference.scores)
    differences = [value - of_reference[seed] for seed, value in cell.scores if seed in of_reference]
    if not differences:
        return None
    mean, std = mean_and_std(differences)
    return Difference(mean, std, len(differences), cell.is_settled and reference.is_settled)
