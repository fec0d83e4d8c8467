"""Hung et al. by hand: whom each loss counts, what each player is told, and from which step on."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from tests.small_networks import ByColour, batch_of, images, with_second
from trainer import losses
from trainer.losses import IGNORE_INDEX, binary_cross_entropy_map
from trainer.methods.adversarial import REAL, AdversarialMethod, judged_as, one_hot, self_taught_loss
from trainer.methods.base import Batch, Objective
from trainer.spec import Adversarial

VOID = IGNORE_INDEX
LABEL = [[0, 1, 2], [VOID, 1, VOID]]
TRUTH = [[2, VOID, VOID], [VOID, 0, 1]]
EVERYTHING = {"self_taught_start": 0, "self_taught_threshold": 0.5}


class Judge(nn.Module):
    """Takes a pixel for real by how much class 0 outweighs class 1; remembers the maps it saw."""

    def __init__(self, gain: float = 3.0, bias: float = 0.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.bias = bias
        self.seen: list[Tensor] = []

    def forward(self, class_probs: Tensor) -> Tensor:
        """Logits [N, H, W]."""
        self.seen.append(class_probs.detach().clone())
        return self.gain * (class_probs[:, 0] - class_probs[:, 1]) + self.bias


def batches() -> dict[str, Batch]:
    """Two labelled images with void, two unlabelled ones, and two whose truth is real."""
    return {
        "labeled": batch_of(images(2, seed=1), LABEL),
        "unlabeled": batch_of(images(2, seed=2)),
        "truth": batch_of(images(2, seed=3), TRUTH),
    }


def play(step: int = 0, judge: Judge | None = None, **fields: Any) -> tuple[list[Objective], ByColour, Judge]:
    """All objectives of a step, the student and the discriminator."""
    student, judge = ByColour(), judge or Judge()
    method = AdversarialMethod(
        Adversarial(**fields), num_classes=3, labeled_batch=2, unlabeled_batch=2, num_steps=10_000
    )
    return list(method.objectives(with_second(student, judge), batches(), step)), student, judge


def scores_of(image: Tensor, judge: Judge) -> list[list[list[float]]]:
    """The judge's logits of the student's predictions, pixel by pixel."""
    samples, _, height, width = image.shape
    return [
        [[_score(image[n, :, y, x].tolist(), judge) for x in range(width)] for y in range(height)]
        for n in range(samples)
    ]


def _score(scores: list[float], judge: Judge) -> float:
    probs = oracles.softmax(scores)
    return judge.gain.item() * (probs[0] - probs[1]) + judge.bias


def self_taught_by_loops(image: Tensor, judge: Judge, threshold: float) -> float:
    """Cross-entropy against the arg-max wherever the judge's probability reaches the threshold."""
    taught = []
    for n, plane in enumerate(scores_of(image, judge)):
        for y, row in enumerate(plane):
            for x, score in enumerate(row):
                if oracles.sigmoid(score) >= threshold:
                    own = image[n, :, y, x].tolist()
                    taught.append(oracles.cross_entropy_at(own, own.index(max(own))))
    return sum(taught) / len(taught) if taught else 0.0


# --- the student's losses -----------------------------------------------------------------------------------------


def test_a_labelled_prediction_should_pass_for_real_where_it_is_labelled() -> None:
    objectives, _, judge = play()
    batch = batches()["labeled"]
    supervised = oracles.mean_cross_entropy(batch.image.tolist(), batch.label.tolist())
    adversarial = oracles.mean_judged(scores_of(batch.image, judge), 1, batch.label.tolist())
    assert objectives[1].loss.item() == pytest.approx(supervised + 0.01 * adversarial, rel=1e-12)
    assert objectives[1].scalars["supervised_loss"].item() == pytest.approx(supervised)
    assert objectives[1].scalars["adversarial_loss"].item() == pytest.approx(adversarial)


def test_an_unlabelled_prediction_should_pass_for_real_everywhere() -> None:
    objectives, _, judge = play()
    expected = oracles.mean_judged(scores_of(batches()["unlabeled"].image, judge), 1)
    assert objectives[0].loss.item() == pytest.approx(0.001 * expected, rel=1e-12)
    assert set(objectives[0].scalars) == {"unlabeled_adversarial_loss", "unlabeled_loss"}


def test_the_student_teaches_itself_where_the_discriminator_trusts_it() -> None:
    objectives, _, judge = play(self_taught_start=0, self_taught_threshold=0.6)
    image = batches()["unlabeled"].image
    adversarial, taught = oracles.mean_judged(scores_of(image, judge), 1), self_taught_by_loops(image, judge, 0.6)
    assert objectives[0].loss.item() == pytest.approx(0.001 * adversarial + 0.1 * taught, rel=1e-12)
    assert 0 < objectives[0].scalars["confident_fraction"].item() < 1


@pytest.mark.parametrize(("step", "teaches"), [(0, False), (4999, False), (5000, True), (9999, True)])
def test_the_student_teaches_itself_from_step_5000_on(step: int, teaches: bool) -> None:
    (unlabeled, *_), _, _ = play(step)
    assert ("self_taught_loss" in unlabeled.scalars) == teaches


@pytest.mark.parametrize(("bias", "trusted"), [(0.0, 1.0), (-1e-9, 0.0)])
def test_a_judgement_at_the_threshold_is_trusted(bias: float, trusted: float) -> None:
    (unlabeled, *_), _, _ = play(judge=Judge(gain=0.0, bias=bias), **EVERYTHING)
    assert unlabeled.scalars["confident_fraction"].item() == trusted


@pytest.mark.parametrize(("probability", "trusted"), [(0.199, 0.0), (0.201, 1.0)])
def test_by_default_a_fifth_of_trust_is_enough(probability: float, trusted: float) -> None:
    judge = Judge(gain=0.0, bias=math.log(probability / (1 - probability)))
    (unlabeled, *_), _, _ = play(5000, judge)
    assert unlabeled.scalars["confident_fraction"].item() == trusted


def test_without_a_trusted_pixel_the_self_taught_loss_is_zero_and_so_is_its_gradient() -> None:
    logits = images(1, seed=5).requires_grad_()
    loss = self_taught_loss(logits, torch.zeros(1, 2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("bias", "share"), [(-9.0, 0.0), (2.0, 1.0)])
def test_the_published_code_drops_the_adversarial_loss_where_nothing_is_trusted(bias: float, share: float) -> None:
    (kept, *_), _, _ = play(judge=Judge(bias=bias), **EVERYTHING)
    (dropped, *_), student, _ = play(judge=Judge(bias=bias), drops_adversarial_when_unconfident=True, **EVERYTHING)
    dropped.loss.backward()
    assert kept.scalars["confident_fraction"].item() == share
    assert kept.loss.item() > 0
    assert dropped.loss.item() == (kept.loss.item() if share else 0)
    assert (student.gain.grad != 0) == bool(share)


def test_the_drop_waits_for_the_student_to_teach_itself() -> None:
    (unlabeled, *_), _, _ = play(judge=Judge(bias=-9.0), drops_adversarial_when_unconfident=True)
    assert unlabeled.loss.item() > 0


@pytest.mark.parametrize(("step", "played"), [(0, 3), (9, 3), (10, 4), (20, 4)])
def test_unlabelled_images_are_left_alone_until_a_loss_wants_them(step: int, played: int) -> None:
    objectives, _, judge = play(step, unlabeled_adversarial_start=10, self_taught_start=20)
    assert len(objectives) == played
    assert len(judge.seen[-2]) == 2 * (played - 2)  # the fakes of the labelled images, then of the unlabelled ones too


def test_losses_without_weight_are_not_played() -> None:
    objectives, _, _ = play(unlabeled_adversarial_weight=0, self_taught_weight=0)
    assert [objective.player for objective in objectives] == ["student", "discriminator", "discriminator"]


# --- the discriminator's losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sees_unlabeled", [True, False])
def test_predictions_are_fake_and_void_ones_do_not_count(sees_unlabeled: bool) -> None:
    objectives, _, judge = play(discriminator_sees_unlabeled=sees_unlabeled)
    labeled, unlabeled = batches()["labeled"], batches()["unlabeled"]
    scores, label = scores_of(labeled.image, judge), labeled.label.tolist()
    if sees_unlabeled:  # of which every pixel counts
        scores, label = scores + scores_of(unlabeled.image, judge), label + [[[0] * 3] * 2] * 2
    fake = oracles.mean_judged(scores, 0, label)
    assert objectives[2].player == "discriminator"
    assert objectives[2].loss.item() == pytest.approx(fake / 2, rel=1e-12)
    assert objectives[2].scalars["discriminator_fake_loss"].item() == pytest.approx(fake)


def test_ground_truth_is_real_and_void_pixels_do_not_count() -> None:
    objectives, _, judge = play()
    score = {0: judge.gain.item(), 1: -judge.gain.item(), 2: 0.0}  # of one-hot pixels
    real = sum(oracles.judged(score[name], 1) for name in (2, 0, 1)) / 3
    assert objectives[3].player == "discriminator"
    assert objectives[3].loss.item() == pytest.approx(real / 2, rel=1e-12)
    assert objectives[3].scalars["discriminator_real_loss"].item() == pytest.approx(real)


def test_a_void_pixel_belongs_to_no_class() -> None:
    expected = torch.tensor([[[0, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0]]])
    _, _, judge = play()
    assert torch.equal(judge.seen[-1], expected.double().expand(2, 3, 2, 3))
    assert torch.equal(one_hot(torch.tensor([TRUTH]), 3, torch.float32), expected[None].float())


def test_labels_without_a_valid_pixel_give_losses_of_zero() -> None:
    void = batch_of(images(2, seed=1))
    method = AdversarialMethod(Adversarial(), num_classes=3, labeled_batch=2, unlabeled_batch=2, num_steps=9)
    given = {"labeled": void, "unlabeled": void, "truth": void}
    _, labeled, _, real = method.objectives(with_second(ByColour(), Judge()), given, 0)
    assert (labeled.loss.item(), real.loss.item()) == (0, 0)


@pytest.mark.parametrize("score", [-800.0, -30.0, 0.0, 2.5, 30.0, 800.0])
def test_a_judgement_costs_minus_the_logarithm_and_never_overflows(score: float) -> None:
    logits = torch.tensor(score, dtype=torch.float64)
    real, fake = (binary_cross_entropy_map(logits, target).item() for target in (1.0, 0.0))
    assert fake - real == pytest.approx(score)
    assert real == pytest.approx(-score if score < -100 else oracles.judged(score, 1), abs=1e-8)


def test_uneven_void_pixels_weigh_the_same_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = images(2, seed=6)[:, 0]
    valid = torch.tensor([[[True] * 3] * 2, [[True, False, False], [False] * 3]])
    whole = judged_as(judgement, valid, REAL)
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "global_sum", lambda _count: valid.sum())
    parts = [judged_as(judgement[rank : rank + 1], valid[rank : rank + 1], REAL) for rank in range(2)]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, whole)


# --- who moves whom, and when -------------------------------------------------------------------------------------


def test_the_critic_teaches_the_student_and_learns_nothing_itself() -> None:
    objectives, student, judge = play(labeled_adversarial_weight=1e6)
    objectives[0].loss.backward()
    assert student.gain.grad != 0  # there is nothing but the critic's word in it
    objectives[1].loss.backward()
    assert student.gain.grad.abs() > 1e3
    assert judge.gain.grad is None


def test_the_discriminator_learns_and_moves_no_student() -> None:
    objectives, student, judge = play()
    for objective in objectives[2:]:
        objective.loss.backward()
    assert judge.gain.grad is not None
    assert judge.gain.grad != 0
    assert student.gain.grad is None


def test_the_discriminator_judges_predictions_of_before_the_students_step() -> None:
    student, judge = ByColour(), Judge()
    method = AdversarialMethod(Adversarial(), num_classes=3, labeled_batch=2, unlabeled_batch=2, num_steps=9)
    turn = method.objectives(with_second(student, judge), batches(), 0)
    before = [torch.softmax(student(batches()[name].image), dim=1).detach() for name in ("unlabeled", "labeled")]
    next(turn)
    next(turn)
    nn.init.constant_(student.gain, -5.0)  # the student's step
    next(turn)
    assert torch.equal(judge.seen[-1], torch.cat(before))
    assert len(student.seen) == 4  # two here, two there: it is not asked again


def test_the_student_sees_unlabelled_images_first() -> None:
    _, student, _ = play()
    assert torch.equal(student.seen[0], batches()["unlabeled"].image)
    assert torch.equal(student.seen[1], batches()["labeled"].image)


def test_the_truth_is_a_stream_of_its_own() -> None:
    method = AdversarialMethod(Adversarial(), num_classes=3, labeled_batch=2, unlabeled_batch=5, num_steps=9)
    streams = [(stream.name, stream.pool, stream.batch) for stream in method.streams]
    assert streams == [("labeled", "labeled", 2), ("unlabeled", "unlabeled", 5), ("truth", "labeled", 2)]
    assert [(phase.first_step, phase.num_steps, phase.has_teacher) for phase in method.phases] == [(0, 9, False)]
