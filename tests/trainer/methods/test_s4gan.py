"""Mittal et al. by hand: ranges, scores, features, whole images, and whose dropout is whose."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from tests.small_networks import ByColour, batch_of, images, with_second
from trainer.losses import IGNORE_INDEX
from trainer.methods import s4gan
from trainer.methods.base import Batch, Objective
from trainer.methods.s4gan import S4GANMethod, feature_matching_loss, self_training_loss, to_unit_range
from trainer.models.discriminators import ImageDiscriminator
from trainer.spec import S4GAN

VOID = IGNORE_INDEX
TRUTH = [[0, 1, VOID], [2, 1, 1]]


class PairJudge(nn.Module):
    """Scores a pair by its mean of class 0 less class 1; its features are the class means and the image's mean."""

    def __init__(self, gain: float = 2.0, bias: float = 0.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.bias = bias
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.keys: list[Tensor | None] = []

    def forward(self, class_map: Tensor, image: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [N] and features [N, 4]."""
        self.seen.append((class_map.detach().clone(), image.detach().clone()))
        self.keys.append(keys)
        means = class_map.mean(dim=(2, 3))
        features = torch.cat([means, image.mean(dim=(1, 2, 3))[:, None]], dim=1)
        return self.gain * (means[:, 0] - means[:, 1]) + self.bias, features


def batches(first: int = 0) -> dict[str, Batch]:
    """One labelled, three unlabelled images, and two with their truth."""
    return {
        "labeled": batch_of(4 * images(1, seed=1) + 1, TRUTH),
        "unlabeled": batch_of(images(3, seed=2), first=first),
        "truth": batch_of(images(2, seed=3), TRUTH, first=first),
    }


def method_of(**fields: Any) -> S4GANMethod:
    """A method of seed 7."""
    return S4GANMethod(S4GAN(**fields), num_classes=3, labeled_batch=2, unlabeled_batch=3, num_steps=9, seed=7)


def play(
    step: int = 0, judge: PairJudge | None = None, first: int = 0, **fields: Any
) -> tuple[list[Objective], ByColour, PairJudge]:
    """All objectives of a step, the student and the discriminator."""
    student, judge = ByColour(), judge or PairJudge()
    return list(method_of(**fields).objectives(with_second(student, judge), batches(first), step)), student, judge


def prediction_of(image: Tensor) -> list[list[list[float]]]:
    """Probabilities of each pixel of each image, [N][H W][C]."""
    return [[oracles.softmax(pixel) for pixel in one.flatten(1).T.tolist()] for one in image]


def score_of(probs: list[list[float]], judge: PairJudge) -> float:
    """The judge's logit of one prediction."""
    return judge.gain.item() * sum(p[0] - p[1] for p in probs) / len(probs) + judge.bias


def unit(values: Tensor) -> Tensor:
    """Values between their least and their greatest."""
    low, high = min(values.flatten().tolist()), max(values.flatten().tolist())
    return (values - low) / (high - low)


# --- ranges -------------------------------------------------------------------------------------------------------


def test_images_come_to_between_zero_and_one_by_the_extremes_of_the_batch() -> None:
    image = torch.tensor([[-1.0, 1.0], [3.0, 0.0]])
    assert to_unit_range(image, image).tolist() == [[0.0, 0.5], [1.0, 0.25]]


def test_the_published_mistake_divides_by_the_range_of_the_labelled_batch() -> None:
    image, labeled = torch.tensor([-1.0, 1.0, 3.0]), torch.tensor([10.0, 18.0])
    assert to_unit_range(image, labeled).tolist() == [0.0, 0.25, 0.5]


def test_images_of_one_value_become_zero_and_not_nan() -> None:
    assert to_unit_range(torch.full((2, 3), 0.7), torch.full((2, 3), 0.7)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("of_range", ["own", "labeled"])
def test_the_discriminator_sees_images_beside_their_maps_in_the_asked_range(of_range: str) -> None:
    _, _, judge = play(real_image_range=of_range)
    truth, labeled = batches()["truth"].image, batches()["labeled"].image
    expected = unit(truth)
    if of_range == "labeled":
        expected = expected * (truth.max() - truth.min()) / (labeled.max() - labeled.min())
    torch.testing.assert_close(judge.seen[3][1], expected)
    torch.testing.assert_close(judge.seen[1][1], expected)
    torch.testing.assert_close(judge.seen[2][1], unit(batches()["unlabeled"].image))


def test_the_range_is_that_of_the_images_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s4gan, "gather", lambda value: [value, torch.tensor(-3.0), torch.tensor(5.0)])
    image = torch.tensor([-3.0, 1.0])
    assert to_unit_range(image, image).tolist() == [0.0, 0.5]


# --- the student's losses -----------------------------------------------------------------------------------------


def test_feature_matching_is_the_mean_distance_of_the_batches_means() -> None:
    real = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 1.0]])
    fake = torch.tensor([[5.0, 0.0, 0.5], [5.0, 1.0, 0.5], [5.0, 2.0, 0.5]])
    assert feature_matching_loss(real, fake).item() == pytest.approx((3 + 1 + 0) / 3)


def test_feature_matching_pulls_the_fake_mean_towards_the_real_one() -> None:
    fake = torch.tensor([[2.0, -1.0], [4.0, 0.0]], requires_grad=True)
    feature_matching_loss(torch.tensor([[1.0, 1.0]]), fake).backward()
    assert fake.grad is not None
    assert fake.grad.tolist() == [[0.25, -0.25]] * 2


def test_feature_matching_counts_the_images_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = iter([torch.tensor([6.0]), torch.tensor(1.0), torch.tensor(3.0)])  # real sum, real count, fake count
    monkeypatch.setattr(s4gan, "global_sum", lambda value: value + next(elsewhere))
    monkeypatch.setattr(s4gan, "global_sum_with_gradient", lambda value: value + 9.0)
    loss = feature_matching_loss(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    assert loss.item() == abs((2 + 6) / 2 - (1 + 9) / 4)


def test_self_training_takes_whole_images_and_their_own_arg_max() -> None:
    logits = images(3, seed=4)
    taught = [
        oracles.cross_entropy_at(pixel, pixel.index(max(pixel)))
        for place in (0, 2)
        for pixel in logits[place].flatten(1).T.tolist()
    ]
    loss = self_training_loss(logits, torch.tensor([True, False, True]))
    assert loss.item() == pytest.approx(sum(taught) / 12, rel=1e-12)


def test_without_a_chosen_image_self_training_is_zero_with_a_gradient_of_zero() -> None:
    logits = images(2, seed=4).requires_grad_()
    loss = self_training_loss(logits, torch.zeros(2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_unlabelled_loss_is_a_tenth_of_matching_and_all_of_self_training() -> None:
    judge = PairJudge(gain=6.0)
    (_, unlabeled, *_), _, _ = play(1, judge)
    image, predictions = batches()["unlabeled"].image, prediction_of(batches()["unlabeled"].image)
    chosen = [oracles.sigmoid(score_of(probs, judge)) > 0.7 for probs in predictions]
    assert any(chosen)
    assert not all(chosen)
    (_, _), (real_map, real_image) = judge.seen[:2]
    fake_means = [sum(p[c] for probs in predictions for p in probs) / 18 for c in range(3)]
    fake_means.append(unit(image).mean().item())
    real_means = [*real_map.mean(dim=(0, 2, 3)).tolist(), real_image.mean().item()]
    matching = sum(abs(a - b) for a, b in zip(fake_means, real_means, strict=True)) / 4
    taught = self_training_loss(image, torch.tensor(chosen)).item()
    assert unlabeled.scalars["feature_matching_loss"].item() == pytest.approx(matching, rel=1e-12)
    assert unlabeled.loss.item() == pytest.approx(0.1 * matching + 1.0 * taught, rel=1e-12)
    assert unlabeled.scalars["confident_fraction"].item() == pytest.approx(sum(chosen) / 3)


@pytest.mark.parametrize(("step", "trains"), [(0, False), (1, True), (8, True)])
def test_self_training_begins_at_step_1(step: int, trains: bool) -> None:
    (_, unlabeled, *_), _, _ = play(step)
    assert ("self_training_loss" in unlabeled.scalars) == trains
    assert "feature_matching_loss" in unlabeled.scalars


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (1e-9, 1.0)])
def test_a_score_at_the_threshold_is_not_enough(bias: float, share: float) -> None:
    (_, unlabeled, *_), _, _ = play(1, PairJudge(gain=0.0, bias=bias), score_threshold=0.5)
    assert unlabeled.scalars["confident_fraction"].item() == share


@pytest.mark.parametrize(("probability", "share"), [(0.699, 0.0), (0.701, 1.0)])
def test_by_default_a_score_above_seven_tenths_is_wanted(probability: float, share: float) -> None:
    judge = PairJudge(gain=0.0, bias=math.log(probability / (1 - probability)))
    (_, unlabeled, *_), _, _ = play(1, judge)
    assert unlabeled.scalars["confident_fraction"].item() == share


# --- the discriminator's losses -----------------------------------------------------------------------------------


def test_only_unlabelled_predictions_are_fake_and_each_loss_is_halved() -> None:
    objectives, _, judge = play()
    fake = [oracles.judged(score_of(p, judge), 0) for p in prediction_of(batches()["unlabeled"].image)]
    real_score = judge.gain.item() * (1 - 3) / 6  # one pixel of class 0, three of class 1, of six with the void one
    assert [objective.player for objective in objectives] == ["student"] * 2 + ["discriminator"] * 2
    assert objectives[2].loss.item() == pytest.approx(sum(fake) / 3 / 2, rel=1e-12)
    assert objectives[3].loss.item() == pytest.approx(oracles.judged(real_score, 1) / 2, rel=1e-12)


def test_the_discriminator_judges_predictions_of_before_the_students_step() -> None:
    student, judge = ByColour(), PairJudge()
    turn = method_of().objectives(with_second(student, judge), batches(), 0)
    next(turn)
    next(turn)
    nn.init.constant_(student.gain, -5.0)  # the student's step
    next(turn)
    assert torch.equal(judge.seen[-1][0], judge.seen[0][0])
    torch.testing.assert_close(judge.seen[-1][0], torch.softmax(batches()["unlabeled"].image, dim=1))


def test_the_critic_teaches_the_student_and_learns_nothing_itself() -> None:
    objectives, student, judge = play(0)
    objectives[1].loss.backward()
    assert student.gain.grad != 0  # by feature matching, through the critic
    assert judge.gain.grad is None
    objectives[2].loss.backward()
    assert judge.gain.grad != 0


# --- dropout ------------------------------------------------------------------------------------------------------


def test_every_pass_of_the_discriminator_has_a_dropout_of_its_own() -> None:
    _, _, judge = play(4)
    keys = [set(keys.tolist()) for keys in judge.keys if keys is not None]
    assert [len(part) for part in keys] == [3, 2, 3, 2]  # scoring, matching, on fakes, on real pairs
    assert len(set.union(*keys)) == 10


def test_a_step_repeats_its_dropout_and_another_step_or_sample_has_another() -> None:
    def keys_of(step: int, first: int) -> list[list[int]]:
        return [keys.tolist() for keys in play(step, first=first)[2].keys if keys is not None]

    assert keys_of(4, 0) == keys_of(4, 0)
    assert keys_of(4, 0)[0][1:] == keys_of(4, 1)[0][:2]  # by the global sample, wherever it is computed
    assert not set(keys_of(4, 0)[0]) & set(keys_of(5, 0)[0])


def test_dropout_may_rest_where_scores_choose_but_not_where_the_discriminator_learns() -> None:
    _, _, judge = play(4, dropout_when_scoring=False)
    assert [keys is None for keys in judge.keys] == [True, True, False, False]


def test_the_real_discriminator_plays_with_and_without_dropout_when_scoring() -> None:
    given = {
        "labeled": batch_of(images(1, 1, 16, 32), 1),
        "unlabeled": batch_of(images(3, 2, 16, 32)),
        "truth": batch_of(images(2, 3, 16, 32), 2),
    }
    losses = []
    for switch in (True, True, False):
        torch.manual_seed(0)
        networks = with_second(ByColour(), ImageDiscriminator(3, width=4).double())
        losses.append([o.loss.item() for o in method_of(dropout_when_scoring=switch).objectives(networks, given, 1)])
    assert losses[0] == losses[1]
    assert losses[0][1] != losses[2][1]
    assert losses[0][2:] == losses[2][2:]
