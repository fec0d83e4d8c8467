"""Feng et al. by hand: thresholds by sorting, pseudo labels and the dynamic loss pixel by pixel, rounds by counting."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import oracles
from tests.small_networks import ByColour, batch_of, images
from trainer.data.pool_labels import PoolLabels
from trainer.losses import IGNORE_INDEX
from trainer.methods import dst_cbc
from trainer.methods.base import Batch, Networks, Phase, PoolPart
from trainer.methods.dst_cbc import DSTCBCMethod, class_thresholds, dynamic_weight, pseudo_label, rounds_of
from trainer.spec import DSTCBC

VOID = IGNORE_INDEX
RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
LABELED = [[0, 1, VOID], [2, 2, 1]]
PSEUDO = [[1, VOID, VOID], [0, 2, VOID]]


def method_of(num_steps: int = 22, **fields: Any) -> DSTCBCMethod:
    """A method of two supervised steps."""
    spec = DSTCBC(**{"supervised_start": 2, **fields})
    return DSTCBCMethod(spec, labeled_batch=4, unlabeled_batch=6, num_steps=num_steps)


def round_batches(labeled: Any = LABELED, pseudo: Any = PSEUDO) -> dict[str, Batch]:
    """One labelled image and two with pseudo labels."""
    return {"labeled": batch_of(images(1, seed=1), labeled), "unlabeled": batch_of(images(2, seed=2), pseudo)}


def loss_of(batches: dict[str, Batch], student: ByColour | None = None, **fields: Any) -> Tensor:
    """The loss of a step within the first round."""
    (objective,) = method_of(**fields).objectives(Networks(student or ByColour(), None), batches, 2)
    return objective.loss


def by_loops(batches: dict[str, Batch], gamma: float) -> float:
    """The same, pixel by pixel."""
    image, label = (torch.cat([getattr(batches[n], part) for n in batches]).tolist() for part in ("image", "label"))
    return oracles.dynamic_loss(image, label, 1, gamma)


@torch.no_grad()
def labelled(method: DSTCBCMethod, pool: PoolPart, step: int, student: ByColour | None = None) -> PoolLabels:
    """The labels of the round that begins after `step` updates."""
    return method.label_pool(student or ByColour(), pool, step)


def pool_of(image: Tensor, sizes: Sequence[int]) -> PoolPart:
    """A pool that comes in batches of these sizes."""

    def batches() -> Iterator[Tensor]:
        yield from image.split(list(sizes))

    return PoolPart(tuple(f"image {place}" for place in range(len(image))), batches, *image.shape[2:])


# --- thresholds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rising", "ratio", "threshold"),
    [
        (RISING, 0.2, 0.8),  # 0.9 and 1.0 lie above
        (RISING, 0.6, 0.4),
        (RISING, 0.05, 1.0),
        (RISING, 0.99, 0.1),
        (RISING[:5], 0.6, 0.2),
        (RISING[:3], 0.3, 0.3),  # 0.9 of an image is none
        ([0.7], 0.8, 0.7),
        ([], 0.4, 1.0),
    ],
)
def test_the_share_of_a_class_that_the_ratio_says_lies_above_its_threshold(
    rising: list[float], ratio: float, threshold: float
) -> None:
    mixed_up = np.array(rising[::2] + rising[1::2])
    assert class_thresholds([mixed_up, np.array([0.33])], ratio) == [threshold, 0.33]


@pytest.mark.parametrize("ratio", [Fraction(1, 5), Fraction(2, 5), Fraction(3, 5), Fraction(4, 5), Fraction(29, 100)])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 100, 137])
def test_thresholds_equal_those_by_sorting(ratio: Fraction, count: int) -> None:
    confidences = np.random.RandomState(count).rand(count)
    (threshold,) = class_thresholds([confidences], float(ratio))
    assert threshold == oracles.class_threshold(confidences.tolist(), ratio)
    assert (confidences > threshold).sum() == ratio * count // 1


def test_the_label_is_the_class_that_exceeds_its_threshold_most() -> None:
    probs = torch.rand(2, 5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(dim=1)
    thresholds = [0.2, 0.3, 0.19, 0.25, 1.0]
    expected = [
        [[oracles.label_by_thresholds(one[:, y, x].tolist(), thresholds) for x in range(6)] for y in range(4)]
        for one in probs
    ]
    found = pseudo_label(probs, torch.tensor(thresholds, dtype=torch.float64)).tolist()
    assert found == expected
    assert {VOID, 0, 2} <= {name for one in found for row in one for name in row}


@pytest.mark.parametrize(
    ("probs", "thresholds", "label"),
    [
        ([0.9, 0.1], [0.9, 0.2], 0),  # at the threshold is enough
        ([0.89, 0.11], [0.9, 0.2], VOID),
        ([0.9, 0.1], [0.9, 0.09], 1),  # a class that is rarely sure may win
        ([0.6, 0.4], [1e-4, 1e-4], 0),
    ],
)
def test_a_few_labels_by_hand(probs: list[float], thresholds: list[float], label: int) -> None:
    given = torch.tensor(probs, dtype=torch.float64).view(1, 2, 1, 1)
    assert pseudo_label(given, torch.tensor(thresholds, dtype=torch.float64)).item() == label


# --- labelling the pool -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (3, 2)])
@pytest.mark.parametrize(("place", "ratio"), [(0, Fraction(1, 5)), (2, Fraction(3, 5))])
def test_the_labels_of_the_pool_equal_those_of_a_loop_over_its_images(
    sizes: tuple[int, ...], place: int, ratio: Fraction
) -> None:
    image = images(5, seed=3, height=7, width=9)
    probs = torch.softmax(image, dim=1).tolist()
    thresholds = oracles.pool_thresholds(probs, ratio, every=4)
    labels = labelled(method_of(sample_every=4), pool_of(image, sizes), 2 + 4 * place)
    assert labels.about == {"label_ratio": float(ratio), "thresholds": pytest.approx(thresholds, rel=1e-12)}
    for number, planes in enumerate(probs):
        expected = [
            [oracles.label_by_thresholds([p[y][x] for p in planes], labels.about["thresholds"]) for x in range(9)]
            for y in range(7)
        ]
        assert labels.label(f"image {number}").tolist() == expected
    assert set(labels.packed) == {f"image {number}" for number in range(5)}


def test_by_default_every_sixteenth_pixel_of_an_image_is_looked_at() -> None:
    image = torch.zeros(2, 3, 4, 8, dtype=torch.float64)
    image[:, 0] = 5.0  # sure of class 0, but not where it is looked at
    image[:, 0, 0, 0], image[:, 0, 2, 0] = 1.0, 2.0
    labels = labelled(method_of(label_ratios=(0.5,)), pool_of(image, (2,)), 2)
    seen = [oracles.softmax([score, 0, 0])[0] for score in (1.0, 2.0)]
    assert labels.about["thresholds"] == pytest.approx([seen[0], 1, 1])  # two of the four lie above, so the next


def test_at_ratio_1_everything_gets_the_label_of_its_arg_max() -> None:
    image = images(3, seed=3, height=4, width=4)
    image[:, 2] = -9.0  # never predicted
    labels = labelled(method_of(), pool_of(image, (2, 1)), 18)
    assert labels.about == {"label_ratio": 1.0, "thresholds": [1e-4] * 3}
    for number in range(3):
        assert labels.label(f"image {number}").tolist() == image[number].argmax(dim=0).tolist()


def test_each_round_has_its_ratio() -> None:
    pool = pool_of(images(2, seed=3), (2,))
    ratios = [labelled(method_of(), pool, step).about["label_ratio"] for step in (2, 6, 10, 14, 18)]
    assert ratios == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_labels_made_at_another_size_come_back_at_the_pools() -> None:
    classes = torch.randint(3, (8, 16), generator=torch.Generator().manual_seed(0))
    image = 9 * torch.eye(3, dtype=torch.float64)[classes].permute(2, 0, 1)[None]
    image = image.repeat_interleave(4, 2).repeat_interleave(3, 3)
    student = ByColour()
    method = method_of(label_ratios=(1.0,), label_height=8, label_width=16)
    labels = labelled(method, pool_of(image, (1,)), 2, student)
    assert student.seen[-1].shape == (1, 3, 8, 16)
    assert (labels.height, labels.width) == (32, 48)
    assert labels.label("image 0").tolist() == image[0].argmax(dim=0).tolist()


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_a_rank_without_images_gets_the_labels_of_the_others(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    image = images(2, seed=3)
    method, told = method_of(label_ratios=(ratio,)), []
    monkeypatch.setattr(dst_cbc, "gather_objects", lambda value: (told.append(value), [value])[1])
    labels = labelled(method, pool_of(image, (2,)), 2)
    elsewhere = iter(told)
    monkeypatch.setattr(dst_cbc, "gather_objects", lambda value: [value, next(elsewhere)])
    empty = PoolPart((), lambda: iter(()), 2, 3)
    assert labelled(method, empty, 2) == labels


def test_the_thresholds_are_those_of_all_ranks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    image = images(4, seed=3, height=4, width=5)
    whole = labelled(method_of(sample_every=3), pool_of(image, (4,)), 2).about
    halves: list[list[np.ndarray]] = []
    monkeypatch.setattr(dst_cbc, "gather_objects", lambda value: (halves.append(value), [value])[1])
    for part in image.split(2):
        labelled(method_of(sample_every=3), pool_of(part, (2,)), 2)
    monkeypatch.setattr(dst_cbc, "gather_objects", lambda value: [*halves[::2]] if isinstance(value, list) else [value])
    assert labelled(method_of(sample_every=3), pool_of(image[:2], (2,)), 2).about == whole


# --- the dynamic loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_the_dynamic_loss_equals_its_loops(gamma: float) -> None:
    assert loss_of(round_batches(), gamma=gamma).item() == pytest.approx(by_loops(round_batches(), gamma), rel=1e-12)


def test_by_default_gamma_is_3() -> None:
    assert loss_of(round_batches()).item() == pytest.approx(by_loops(round_batches(), 3.0), rel=1e-12)


@pytest.mark.parametrize(("labeled", "pseudo"), [(VOID, PSEUDO), (LABELED, VOID), (VOID, VOID)])
def test_a_half_without_labels_leaves_the_other_as_it_is(labeled: Any, pseudo: Any) -> None:
    batches = round_batches(labeled, pseudo)
    assert loss_of(batches).item() == pytest.approx(by_loops(batches, 3.0), rel=1e-12)


def test_the_weight_is_the_probability_of_the_label_to_the_power_of_gamma() -> None:
    probs = [1.0, 0.5, 0.1, 1e-9]
    weights = dynamic_weight(-torch.tensor(probs, dtype=torch.float64).log(), 3.0)
    assert weights.tolist() == pytest.approx([prob**3 for prob in probs])


def test_the_weight_has_no_gradient_of_its_own() -> None:
    image = images(1, seed=5, height=1, width=1)
    scores = image.flatten().tolist()
    probs, student = oracles.softmax(scores), ByColour()
    batches = {"labeled": batch_of(image), "unlabeled": batch_of(image, 1)}
    loss_of(batches, student, gamma=2.0).backward()
    slope = sum((probs[c] - (c == 1)) * scores[c] for c in range(3))  # of the cross-entropy by the gain
    assert student.gain.grad is not None
    assert student.gain.grad.item() == pytest.approx(probs[1] ** 2 * slope, rel=1e-12)


def test_pixels_of_any_score_give_a_finite_loss_and_gradient() -> None:
    student = ByColour(1e30)
    loss = loss_of(round_batches(), student)
    loss.backward()
    assert loss.isfinite()
    assert student.gain.grad is not None
    assert student.gain.grad.isfinite()


def test_scalars_tell_of_both_halves() -> None:
    (objective,) = method_of(gamma=2.0).objectives(Networks(ByColour(), None), round_batches(), 2)
    halves = {name: {name: batch} for name, batch in round_batches().items()}
    labeled, pseudo = (by_loops({"labeled": batch_of(images(1, 1))} | half, 2.0) for half in halves.values())
    assert objective.scalars["supervised_loss"].item() == pytest.approx(labeled)
    assert objective.scalars["unlabeled_loss"].item() == pytest.approx(pseudo)
    assert objective.scalars["confident_fraction"].item() == pytest.approx(3 / 6)


def test_both_halves_go_through_the_student_together() -> None:
    student = ByColour()
    loss_of(round_batches(), student)
    assert [len(seen) for seen in student.seen] == [3]


@pytest.mark.parametrize(("start_batch", "stream"), [(None, "labeled"), (8, "start")])
def test_the_start_is_supervised_on_its_own_stream(start_batch: int | None, stream: str) -> None:
    batch = batch_of(images(1, seed=1), LABELED)
    for step in (0, 1):
        (objective,) = method_of(start_batch=start_batch).objectives(Networks(ByColour(), None), {stream: batch}, step)
        expected = oracles.mean_cross_entropy(batch.image.tolist(), batch.label.tolist())
        assert objective.loss.item() == pytest.approx(expected, rel=1e-12)


# --- rounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "num_steps", "count", "rounds"),
    [
        (8000, 40_000, 5, [(8000, 6400), (14_400, 6400), (20_800, 6400), (27_200, 6400), (33_600, 6400)]),
        (2, 15, 3, [(2, 4), (6, 4), (10, 5)]),  # the last one gets what is left over
        (0, 7, 2, [(0, 3), (3, 4)]),
    ],
)
def test_rounds_share_what_the_start_leaves(start: int, num_steps: int, count: int, rounds: list[Any]) -> None:
    spec = DSTCBC(supervised_start=start, label_ratios=(0.5,) * count)
    assert rounds_of(spec, num_steps) == rounds


def test_each_round_begins_with_new_optimizers_and_labels_and_a_schedule_of_its_own() -> None:
    start, *rounds = method_of(label_ratios=(0.5, 1.0), num_steps=9).phases
    assert start == Phase(0, 2, has_teacher=False, restarts_schedule=True, streams=("labeled",))
    actions, streams = ("restart_optimizers", "label_pool"), ("labeled", "unlabeled")
    assert rounds == [
        Phase(first, length, actions, has_teacher=False, restarts_schedule=True, streams=streams)
        for first, length in ((2, 3), (5, 4))
    ]


def test_the_best_weights_are_carried_before_anything_else_is_done() -> None:
    phases = method_of(carry="best").phases
    assert all(phase.keeps_best for phase in phases)
    assert {phase.on_enter for phase in phases[1:]} == {("carry_best", "restart_optimizers", "label_pool")}


def test_without_a_start_the_first_round_is_the_first_phase() -> None:
    phases = method_of(supervised_start=0, num_steps=10).phases
    assert [(phase.first_step, phase.num_steps) for phase in phases] == [(0, 2), (2, 2), (4, 2), (6, 2), (8, 2)]


def test_a_start_of_another_batch_reads_a_stream_of_its_own() -> None:
    method = method_of(start_batch=8)
    streams = [(s.name, s.pool, s.batch, s.shows_pool_labels) for s in method.streams]
    assert streams == [
        ("labeled", "labeled", 4, False),
        ("unlabeled", "unlabeled", 6, True),
        ("start", "labeled", 8, False),
    ]
    assert method.phases[0].streams == ("start",)
    assert method_of().streams == method.streams[:2]
