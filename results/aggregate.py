"""Frames to aggregates: which evaluation counts, and seeds to mean ± std. Knows no format.

Only done trials are averaged; what is absent from a mean is carried along with its state.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Literal, Protocol

import pandas as pd

from results.frame import Frames
from trainer.spec import MEAN

PolicyName = Literal["last", "best"]
NetworkName = Literal["student", "teacher"]
ORIGIN = ["row", "label_fraction", "seed", "trial_id", "network"]
UNDEFINED = "undefined"


def _last_step(scores: pd.DataFrame) -> pd.Series:
    return scores.groupby(ORIGIN, sort=False)["step"].idxmax()


def _best_step(scores: pd.DataFrame) -> pd.Series:
    # an undefined mean IoU is below every other; idxmax takes the first of equals, which is the earliest step
    return scores.assign(iou=scores["iou"].fillna(-1.0)).groupby(ORIGIN, sort=False)["iou"].idxmax()


POLICIES: Mapping[PolicyName, Callable[[pd.DataFrame], pd.Series]] = {"last": _last_step, "best": _best_step}
POLICY_WORDS: Mapping[PolicyName, str] = {
    "last": "at the last step",
    "best": "at its best evaluation step (largest mean IoU on the evaluation images, chosen per trial)",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which evaluation of a trial is its score.

    `policy`: "last" is the evaluation after the last step, "best" the one with the largest mean IoU, the earliest of
    equals. `network`: rows whose trials have no teacher at all are judged by their student under "teacher".
    """

    policy: PolicyName = "last"
    network: NetworkName = "student"

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy {self.policy!r} is not known: give {' or '.join(POLICIES)}")
        if self.network not in ("student", "teacher"):
            raise ValueError(f"network {self.network!r} is not known: give student or teacher")


NO_ROWS: Mapping[str, Selection] = MappingProxyType({})
"""No row has a selection of its own."""


class SelectingRow(Protocol):
    """What is asked of a row that may have a selection of its own; None: the frame's."""

    @property
    def label(self) -> str: ...
    @property
    def selection(self) -> PolicyName | None: ...
    @property
    def reported_network(self) -> NetworkName | None: ...


class SelectingFrame(Protocol):
    """What is asked of a frame."""

    @property
    def selection(self) -> PolicyName: ...
    @property
    def reported_network(self) -> NetworkName: ...


class SelectingTable(Protocol):
    """What is asked of a table that says which evaluations count."""

    @property
    def frame(self) -> SelectingFrame: ...
    @property
    def rows(self) -> Sequence[SelectingRow]: ...


def selections_of(
    table: SelectingTable, *, policy: PolicyName | None = None, network: NetworkName | None = None
) -> tuple[Selection, dict[str, Selection]]:
    """The table's selection, and that of each row which has one of its own; a word that is given rules every row."""
    frame = table.frame
    common = Selection(policy or frame.selection, network or frame.reported_network)
    own = {
        row.label: Selection(
            policy or row.selection or frame.selection, network or row.reported_network or frame.reported_network
        )
        for row in table.rows
    }
    return common, {label: selection for label, selection in own.items() if selection != common}


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The seeds of one row at one label fraction.

    `mean` and `std` (of the sample, ddof 1) in [0, 1], NaN where n is too small for them. `values` are sorted, `scores`
    are (seed, value) in the order of the table, `absent` are (seed, state) of the seeds that are in no mean: failed,
    partial, missing, running, or undefined where a done trial has no defined mean IoU. `stale` are (seed, what has
    changed since) of the seeds that are in the mean all the same.
    """

    row: str
    label_fraction: str
    mean: float
    std: float
    expected: int
    values: tuple[float, ...]
    scores: tuple[tuple[int, float], ...]
    absent: tuple[tuple[int, str], ...]
    trial_ids: tuple[str, ...]
    stale: tuple[tuple[int, str], ...] = ()

    @property
    def n(self) -> int:
        """The number of seeds in the mean."""
        return len(self.values)

    @property
    def is_complete(self) -> bool:
        """Whether every declared seed is in the mean."""
        return self.n == self.expected

    @property
    def is_settled(self) -> bool:
        """Whether the mean may be compared: no seed is absent from it, and nothing has changed since."""
        return bool(self.values) and self.is_complete and not self.stale

    @property
    def state(self) -> str:
        """ "done", or the absent seeds by state, such as "failed 1; missing 3, 4"."""
        if self.is_complete:
            return "done"
        by_state = groupby(sorted((state, seed) for seed, state in self.absent), key=lambda pair: pair[0])
        return "; ".join(f"{state} {', '.join(str(seed) for _, seed in seeds)}" for state, seeds in by_state)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1), exact to the last bit and so the same on every machine.

    Returns: (mean, std); NaN for the mean of nothing and for the std of fewer than two values.
    """
    mean = math.fsum(values) / len(values) if values else math.nan
    return mean, statistics.stdev(values) if len(values) > 1 else math.nan


def choose_steps(results: pd.DataFrame, policy: PolicyName, by_row: Mapping[str, Selection] = NO_ROWS) -> pd.DataFrame:
    """Choose the evaluation of each trial and network.

    Args:
        by_row: selections of rows that have one of their own.
    Returns: the "mean" lines of `results` at the chosen steps, in the order of `results`; `iou` is the mean IoU.
    """
    scores = results[results["class_name"] == MEAN].sort_values("step", kind="stable")
    if not len(scores):
        return scores
    policies = scores["row"].map(lambda row: by_row[row].policy if row in by_row else policy)
    chosen = [scores.loc[POLICIES[name](part)] for name in POLICIES if len(part := scores[policies == name])]
    return pd.concat(chosen).sort_index()


def select_scores(frames: Frames, selection: Selection, by_row: Mapping[str, Selection] = NO_ROWS) -> pd.DataFrame:
    """The score of each done trial, one line a trial; `by_row` as in `choose_steps`.

    Returns: as `choose_steps`; `network` says which one was judged where a row has no teacher.
    """
    done = frames.cells.loc[frames.cells["state"] == "done", "trial_id"]
    chosen = choose_steps(frames.results[frames.results["trial_id"].isin(done)], selection.policy, by_row)
    networks = chosen["row"].map(lambda row: by_row.get(row, selection).network)
    wanted = chosen["network"] == networks
    rows_with = chosen.loc[wanted, "row"].unique()
    return chosen[wanted | ((chosen["network"] == "student") & ~chosen["row"].isin(rows_with))]


def summarize(
    frames: Frames, selection: Selection, by_row: Mapping[str, Selection] = NO_ROWS
) -> dict[tuple[str, str], CellSummary]:
    """Bring the seeds of each declared (row, label fraction) together, in the order of the table."""
    scores = select_scores(frames, selection, by_row)
    places = zip(scores["row"], scores["trial_id"], strict=True)
    values = dict(zip(places, scores["iou"].tolist(), strict=True))
    by_place = frames.cells.groupby(["row", "label_fraction"], sort=False)
    return {(str(row), str(fraction)): _summary(cells, values) for (row, fraction), cells in by_place}


def _summary(cells: pd.DataFrame, values: Mapping[tuple[str, str], float]) -> CellSummary:
    row, fraction = str(cells["row"].iloc[0]), str(cells["label_fraction"].iloc[0])
    scores, absent = [], []
    for seed, trial_id, state in zip(cells["seed"].tolist(), cells["trial_id"], cells["state"], strict=True):
        value = values.get((row, trial_id), math.nan)
        if math.isnan(value):
            absent.append((seed, UNDEFINED if state == "done" else state))
        else:
            scores.append((seed, value))
    ordered = tuple(sorted(value for _, value in scores))
    mean, std = mean_and_std(ordered)
    return CellSummary(
        row,
        fraction,
        mean,
        std,
        len(cells),
        ordered,
        tuple(scores),
        tuple(absent),
        tuple(cells["trial_id"]),
        stale=tuple((seed, text) for seed, text in zip(cells["seed"].tolist(), cells["stale"], strict=True) if text),
    )


def leader(summaries: Iterable[CellSummary]) -> str | None:
    """The row that leads a column: its mean is above every other one by more than the larger of their two stds.

    Only settled cells take part. Returns: None where fewer than two do or where one has no std: no lead can be claimed.
    """
    settled = sorted((cell for cell in summaries if cell.is_settled), key=lambda cell: -cell.mean)
    if len(settled) < 2 or any(math.isnan(cell.std) for cell in settled):
        return None
    best, *others = settled
    leads = all(best.mean - other.mean > max(best.std, other.std) for other in others)
    return best.row if leads else None


def labeled_counts(frames: Frames) -> dict[str, int]:
    """The number of labelled images by label fraction, where the manifests of a fraction agree in it."""
    joined = frames.cells.merge(frames.attempts, on="trial_id")
    counts = joined.groupby("label_fraction", sort=False)["num_labeled"].unique()
    return {str(fraction): int(found[0]) for fraction, found in counts.items() if len(found) == 1}


def find_differences(frames: Frames) -> tuple[str, ...]:
    """A line for each thing in which the attempts behind the done trials differ though one table should not.

    Weights are compared among trials with the same initial weights, random ones not at all.
    """
    counted = frames.attempts[frames.attempts["in_result"]]
    initial = frames.results.drop_duplicates("trial_id").set_index("trial_id")["initial_weights"]
    started = counted["trial_id"].map(initial)
    things = {"code": counted["code_digest"].str[:12], "data": counted["data_digest"].str[:12]}
    for name in sorted(set(initial) - {"random"}):
        things[f"{name} weights"] = counted.loc[started == name, "weights_digest"].str[:12]
    things["torch"] = pd.Series([json.loads(text).get("torch", "unknown") for text in counted["versions"]])
    return tuple(_tally(what, found) for what, found in things.items() if found.nunique() > 1)


def _tally(what: str, found: pd.Series) -> str:
    listed = ", ".join(f"{value} ({count} attempts)" for value, count in sorted(found.value_counts().items()))
    return f"cells differ in {what}: {listed}"
