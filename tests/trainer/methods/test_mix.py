"""Mean teacher on mixed images, with networks small enough to compute by hand."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import oracles
from trainer.data.transforms import strong_augmentation
from trainer.losses import IGNORE_INDEX, batch_mean
from trainer.methods.base import Batch, Networks, Objective, Phase
from trainer.methods.masks import MaskFn
from trainer.methods.mix import MixMethod, blend
from trainer.randomness import key_of, sample_keys
from trainer.spec import Mix, StrongAugmentation

PLAIN = StrongAugmentation(jitter_probability=0, blur_probability=0)
CONFIDENT = 0.968
ICT = {"loss": "squared", "gate": "none", "unlabeled_weight": 0.3}


class Recorder:
    """A network that scores three classes by the image's channels times a gain, and remembers what it saw."""

    def __init__(self, gain: float) -> None:
        self.layer = nn.Conv2d(3, 3, 1, bias=False).double()
        nn.init.zeros_(self.layer.weight)
        with torch.no_grad():
            self.layer.weight[:, :, 0, 0] = gain * torch.eye(3)
        self.seen: list[Tensor] = []

    def __call__(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        logits: Tensor = self.layer(image)
        return logits


def keep_columns(*columns: int) -> MaskFn:
    """A mask that keeps the same columns of every image."""

    def mask(class_map: Tensor, _keys: Tensor, _batch_key: int) -> Tensor:
        kept = torch.zeros(len(class_map), 1, *class_map.shape[1:])
        kept[..., list(columns)] = 1
        return kept

    return mask


def method_of(mask: MaskFn | None = None, **fields: Any) -> MixMethod:
    """A method of one labelled and three unlabelled images, without augmentation unless asked for."""
    spec = Mix(**{"augmentation": PLAIN, **fields})
    return MixMethod(spec, mask or keep_columns(0), labeled_batch=1, unlabeled_batch=3, num_steps=100, seed=4)


def batch_of(image: Tensor, label: int = IGNORE_INDEX, first: int = 0) -> Batch:
    """A batch with one label everywhere."""
    label_map = torch.full((len(image), *image.shape[2:]), label)
    return Batch(image, label_map, torch.arange(first, first + len(image)))


def three_images() -> Tensor:
    """Three images of 2x3 pixels: image i shows class i, surely in its upper row and unsurely in its lower one."""
    image = torch.zeros(3, 3, 2, 3, dtype=torch.float64)
    for place, channel in enumerate(range(3)):
        image[place, channel, 0] = 1.0
        image[place, channel, 1] = 0.25
    return image


def networks_of(student_gain: float = 2.0, teacher_gain: float = 8.0) -> tuple[Networks, Recorder, Recorder]:
    """A student and a teacher; the teacher is confident where a channel stands out by 1, not by 1/4."""
    student, teacher = Recorder(student_gain), Recorder(teacher_gain)
    return Networks(student, teacher), student, teacher


def objectives_of(method: MixMethod, networks: Networks, image: Tensor, step: int = 0) -> list[Objective]:
    """All objectives of a step on one labelled image of class 1 and the given unlabelled ones."""
    labeled = batch_of(torch.full((1, 3, 2, 3), 0.5, dtype=torch.float64), label=1)
    return list(method.objectives(networks, {"labeled": labeled, "unlabeled": batch_of(image)}, step))


def consistency(fields: dict[str, Any], image: Tensor, step: int = 0) -> Objective:
    """The second objective."""
    networks, _, _ = networks_of()
    _, objective = objectives_of(method_of(**fields), networks, image, step)
    return objective


def by_hand(weight_of: str, loss: str = "cross_entropy") -> float:
    """The unlabelled loss of the three images with their first column kept, pixel by pixel."""
    total = confident = 0.0
    terms: list[tuple[float, bool]] = []
    for place in range(3):
        for row, column in ((row, column) for row in range(2) for column in range(3)):
            shown = (
                place if column == 0 else (place + 1) % 3
            )  # the first column is image a's, the rest the next image's
            brightness = 1.0 if row == 0 else 0.25
            terms.append((_pixel_loss(shown, brightness, loss), brightness == 1.0))
    confident = sum(sure for _, sure in terms) / len(terms)
    for value, sure in terms:
        total += value * {"batch_share": confident, "pixel": float(sure), "none": 1.0}[weight_of]
    return total / len(terms)


def _pixel_loss(shown: int, brightness: float, loss: str) -> float:
    student = [2.0 * brightness * (name == shown) for name in range(3)]
    teacher = [8.0 * brightness * (name == shown) for name in range(3)]
    if loss == "cross_entropy":
        return oracles.cross_entropy_at(student, shown)
    p, q = (torch.tensor(scores, dtype=torch.float64).softmax(0).tolist() for scores in (student, teacher))
    if loss == "soft_cross_entropy":
        return -sum(b * math.log(a) for a, b in zip(p, q, strict=True))
    return sum((a - b) ** 2 for a, b in zip(p, q, strict=True))


# --- mixing -------------------------------------------------------------------------------------------------------


def test_the_partner_is_the_next_image_of_the_batch_cyclic() -> None:
    images = torch.arange(3, dtype=torch.float64).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    networks, _, _ = networks_of()
    mixed = method_of(keep_columns()).mix(networks, {"unlabeled": batch_of(images)}, step=0).image
    assert mixed[:, 0, 0, 0].tolist() == [1.0, 2.0, 0.0]


def test_where_the_mask_is_one_a_sample_keeps_its_own() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 1, 2)
    mixed = blend(torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2), images, images.roll(-1, 0))
    assert mixed[:, 2, 0].tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 0.0]]


def test_a_binary_mask_changes_no_bit_of_what_it_takes() -> None:
    a, b = torch.rand(2, 64, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    for mask, kept in ((torch.ones(64, 1, 5, 7), a), (torch.zeros(64, 1, 5, 7), b)):
        assert torch.equal(blend(mask, a, b), kept)


def test_a_share_blends_both_images_everywhere() -> None:
    a, b = torch.full((1, 3, 2, 2), 0.8), torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(blend(torch.full((1, 1, 2, 2), 0.25), a, b), torch.full((1, 3, 2, 2), 0.5))


def test_two_streams_pair_image_by_image_in_one_direction() -> None:
    networks, _, teacher = networks_of()
    method, other = method_of(keep_columns(0), pairs="two_streams"), three_images().roll(1, 0)
    batches = {"labeled": batch_of(three_images()[:1], label=1), "unlabeled": batch_of(three_images())}
    mixed = method.mix(networks, {**batches, "partner": batch_of(other)}, step=0)
    assert mixed.image.argmax(dim=1)[:, 0].tolist() == [[0, 2, 2], [1, 0, 0], [2, 1, 1]]
    assert mixed.pseudo_label[:, 0].tolist() == [[0, 2, 2], [1, 0, 0], [2, 1, 1]]
    assert len(teacher.seen) == 2
    assert [(s.name, s.pool, s.batch) for s in method.streams][2] == ("partner", "unlabeled", 3)


def test_images_and_teachers_probabilities_are_mixed_alike() -> None:
    networks, _, _ = networks_of()
    method = method_of(keep_columns(0), loss="soft_cross_entropy")
    mixed = method.mix(networks, {"unlabeled": batch_of(three_images())}, step=0)
    own_and_partner = [[[i, (i + 1) % 3, (i + 1) % 3]] * 2 for i in range(3)]
    assert mixed.image.argmax(dim=1).tolist() == own_and_partner
    assert mixed.probs is not None
    assert mixed.probs.argmax(dim=1).tolist() == own_and_partner
    torch.testing.assert_close(mixed.probs, torch.softmax(8 * mixed.image, dim=1))


@pytest.mark.parametrize("pairs", ["cyclic", "two_streams"])
def test_confidence_and_class_of_mixed_probabilities_are_those_mixed_before(pairs: str) -> None:
    networks, _, _ = networks_of()
    batches = {"unlabeled": batch_of(three_images()), "partner": batch_of(three_images().flip(0) * 0.7)}
    soft = method_of(keep_columns(0), loss="soft_cross_entropy", pairs=pairs).mix(networks, batches, step=0)
    hard = method_of(keep_columns(0), pairs=pairs).mix(networks, batches, step=0)
    assert hard.probs is None
    assert torch.equal(hard.confidence, soft.confidence)
    assert torch.equal(hard.pseudo_label, soft.pseudo_label)
    assert len(hard.confidence.unique()) > 1


def test_the_confidence_of_a_mixed_pixel_comes_with_it() -> None:
    image = three_images()
    image[0] *= 0.1  # image 0 is unsure everywhere
    networks, _, _ = networks_of()
    confidence = method_of(keep_columns(0)).mix(networks, {"unlabeled": batch_of(image)}, step=0).confidence
    sure = confidence[:, 0] >= CONFIDENT
    assert sure.tolist() == [[False, True, True], [True, True, True], [True, False, False]]


def test_the_mask_is_drawn_from_the_teachers_classes_and_the_keys_of_the_step() -> None:
    calls: list[tuple[Tensor, Tensor, int]] = []

    def spy(class_map: Tensor, keys: Tensor, batch_key: int) -> Tensor:
        calls.append((class_map, keys, batch_key))
        return torch.ones(3, 1, 2, 3)

    networks, _, _ = networks_of()
    method_of(spy).mix(networks, {"unlabeled": batch_of(three_images(), first=21)}, step=7)
    (class_map, keys, batch_key), expected = calls[0], key_of(4, "mix_mask", 7)
    assert class_map.tolist() == [[[i] * 3] * 2 for i in range(3)]
    assert batch_key == expected
    assert torch.equal(keys, sample_keys(expected, torch.tensor([21, 22, 23])))


# --- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["batch_share", "pixel", "none"])
@pytest.mark.parametrize("loss", ["cross_entropy", "soft_cross_entropy", "squared"])
def test_the_unlabelled_loss_equals_the_sum_by_hand(gate: str, loss: str) -> None:
    objective = consistency({"gate": gate, "loss": loss}, three_images())
    assert objective.loss.item() == pytest.approx(by_hand(gate, loss), rel=1e-12)


def test_the_gates_give_different_losses() -> None:
    assert len({round(by_hand(gate), 9) for gate in ("batch_share", "pixel", "none")}) == 3


def test_the_batch_share_weighs_every_pixel_equally() -> None:
    networks, student, _ = networks_of()
    method = method_of(confidence_threshold=0.5, gate="batch_share")
    (_, objective), (_, halved) = (objectives_of(m, networks, three_images()) for m in (method, method_of()))
    assert objective.scalars["confident_fraction"].item() == pytest.approx(1.0)
    assert halved.scalars["confident_fraction"].item() == pytest.approx(0.5)
    assert halved.loss.item() == pytest.approx(objective.loss.item() / 2, rel=1e-12)
    assert student.layer.weight.requires_grad


def test_a_confidence_at_the_threshold_counts() -> None:
    image = torch.zeros(3, 3, 2, 3, dtype=torch.float64)  # every class has a third
    third = torch.softmax(torch.zeros(3, dtype=torch.float64), dim=0)[0].item()
    objective = consistency({"confidence_threshold": third}, image)
    assert objective.scalars["confident_fraction"].item() == 1.0


def test_nothing_confident_gives_a_loss_of_zero_with_a_gradient_of_zero() -> None:
    networks, student, _ = networks_of()
    _, objective = objectives_of(method_of(), networks, 0.1 * three_images())
    objective.loss.backward()
    assert objective.loss.item() == 0.0
    assert student.layer.weight.grad is not None
    assert (student.layer.weight.grad == 0).all()


def test_the_unlabelled_weight_scales_the_loss() -> None:
    once, thrice = (consistency({"unlabeled_weight": weight}, three_images()) for weight in (1.0, 3.0))
    assert thrice.loss.item() == pytest.approx(3 * once.loss.item(), rel=1e-12)


def test_a_ramp_scales_the_loss_by_the_step() -> None:
    full = consistency({}, three_images()).loss.item()
    ramped = [consistency({"ramp_up_steps": 4}, three_images(), step).loss.item() for step in (0, 1, 4, 50)]
    assert ramped == pytest.approx([0.0, full / 4, full, full], rel=1e-12)


def test_scalars_say_loss_share_and_area_without_gradient() -> None:
    objective = consistency({}, three_images())
    assert set(objective.scalars) == {"unlabeled_loss", "confident_fraction", "mask_area"}
    assert objective.scalars["mask_area"].item() == pytest.approx(1 / 3)
    assert objective.scalars["unlabeled_loss"].item() == pytest.approx(objective.loss.item())
    assert not any(value.requires_grad for value in objective.scalars.values())


def test_the_mean_of_a_batch_is_taken_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: Iterator[Tensor] = iter([torch.tensor(3.0), torch.tensor(12.0)])  # of another rank: values, then their count
    monkeypatch.setattr("trainer.losses.global_sum", lambda value: value + next(sums))
    assert batch_mean(torch.ones(4)).item() == (4 + 3) / (4 + 12)


# --- who sees what, and when --------------------------------------------------------------------------------------


def test_only_the_student_gets_a_gradient() -> None:
    networks, student, teacher = networks_of()
    for objective in objectives_of(method_of(), networks, three_images()):
        assert objective.player == "student"
        objective.loss.backward()
    assert student.layer.weight.grad is not None
    assert student.layer.weight.grad.abs().sum() > 0
    assert teacher.layer.weight.grad is None


def test_the_teacher_sees_raw_images_and_the_student_augmented_mixed_ones() -> None:
    augmentation = StrongAugmentation(jitter_probability=1, blur_probability=1)
    networks, student, teacher = networks_of()
    method = method_of(augmentation=augmentation)
    image = three_images().repeat(1, 1, 12, 8)
    objectives_of(method, networks, image, step=3)
    mixed = method.mix(networks, {"unlabeled": batch_of(image)}, step=3).image
    assert torch.equal(teacher.seen[0], image)
    assert (student.seen[0] == 0.5).all()  # the labelled image, as it is
    expected = strong_augmentation(mixed, key_of(4, "strong_augmentation", 3), augmentation)
    assert torch.equal(student.seen[1], expected)
    assert not torch.equal(student.seen[1], mixed)


def test_the_first_objective_is_the_supervised_loss() -> None:
    networks, _, _ = networks_of()
    supervised, _ = objectives_of(method_of(), networks, three_images())
    assert supervised.loss.item() == pytest.approx(oracles.cross_entropy_at([1.0, 1.0, 1.0], 1))
    assert supervised.scalars["supervised_loss"].item() == pytest.approx(supervised.loss.item())


def test_there_is_no_consistency_objective_before_the_supervised_start_ends() -> None:
    networks, _, teacher = networks_of()
    method = method_of(supervised_start=10)
    counts = [len(objectives_of(method, networks, three_images(), step)) for step in (0, 9, 10, 99)]
    assert counts == [1, 1, 2, 2]
    assert len(teacher.seen) == 2


def test_the_teacher_is_copied_when_mixing_begins() -> None:
    supervised = Phase(0, 10, has_teacher=False, streams=("labeled",))
    assert method_of(supervised_start=10).phases == (supervised, Phase(10, 90, ("copy_teacher",)))
    assert method_of().phases == (Phase(0, 100, ("copy_teacher",)),)


def test_both_halves_of_the_batch_are_streams_of_their_own() -> None:
    streams = method_of().streams
    assert [(s.name, s.pool, s.batch) for s in streams] == [("labeled", "labeled", 1), ("unlabeled", "unlabeled", 3)]


# --- ICT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_ict_blends_both_outputs_of_the_teacher_by_the_share_of_their_images(share: float) -> None:
    method = method_of(lambda class_map, *_: torch.full((3, 1, *class_map.shape[1:]), share), **ICT)
    networks, student, _ = networks_of()
    _, objective = objectives_of(method, networks, three_images())
    image = three_images()
    expected = total = 0.0
    for n, y, x in ((n, y, x) for n in range(3) for y in range(2) for x in range(3)):
        a, b = image[n, :, y, x].tolist(), image[(n + 1) % 3, :, y, x].tolist()
        taught_a, taught_b = (oracles.softmax([8 * value for value in scores]) for scores in (a, b))
        own = oracles.softmax([2 * (share * u + (1 - share) * v) for u, v in zip(a, b, strict=True)])
        expected += sum((p - share * u - (1 - share) * v) ** 2 for p, u, v in zip(own, taught_a, taught_b, strict=True))
        total += 1
    torch.testing.assert_close(student.seen[1], share * image + (1 - share) * image.roll(-1, 0))
    assert objective.loss.item() == pytest.approx(0.3 * expected / total, rel=1e-6)
