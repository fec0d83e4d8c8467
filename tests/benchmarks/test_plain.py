"""The plain references do the same work as the fast parts: without that a ratio says nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.bench.loader import write_scenes
from orchestrator.bench.plain import (
    average_one_by_one,
    bare_steps,
    block_loop_mask,
    class_loop_mask,
    cyclic_mix,
    decode_and_resize,
    judge_by_image,
    plain_augmentation,
)
from orchestrator.bench.rooms import classmix_spec, open_trial
from orchestrator.bench.stepping import loop_chunks, published_steps, step_flop
from tests import oracles
from trainer.build import build_mask
from trainer.data.cache import open_cache
from trainer.data.streams import on_device
from trainer.data.transforms import strong_augmentation
from trainer.distributed import next_of_global_batch
from trainer.evaluate import evaluate
from trainer.methods.mix import blend
from trainer.randomness import key_of, sample_keys
from trainer.spec import ComplexMask, StrongAugmentation, TinyNetwork
from trainer.trial import Trial

CPU = torch.device("cpu")
SPEC = classmix_spec(TinyNetwork(width=4), 32, 64, num_eval=3)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return open_trial(SPEC, tmp_path, CPU)


def test_the_loop_over_blocks_draws_the_mask_of_the_same_choice() -> None:
    class_map = torch.randint(5, (2, 16, 24), generator=torch.Generator().manual_seed(0))
    keys = sample_keys(7, torch.arange(2))

    def choose(image: int, block: int) -> Tensor:
        return torch.tensor(sorted(oracles.choose_by_hash(int(keys[image]), block, range(5), 5, 2)))

    mask = build_mask(ComplexMask(block_counts=(4,)), 5)(class_map, keys, 7)
    assert torch.equal(block_loop_mask(class_map, 4, choose), mask)


def test_the_loop_over_images_keeps_half_of_the_classes_of_each() -> None:
    class_map = torch.arange(5).repeat(3, 4, 2)
    for mask in class_loop_mask(class_map):
        assert len(class_map[0][mask[0] == 1].unique()) == 2


def test_a_decoded_image_is_the_cached_one(tmp_path: Path) -> None:
    layout = write_scenes(tmp_path, 2, 64, 128)
    images = open_cache(layout, "train", height=32, width=64, folder=tmp_path / "cache")
    for place, sample in enumerate(layout.samples("train")):
        assert sample.label is not None
        image, label = decode_and_resize(sample.image, sample.label, height=32, width=64)
        assert np.array_equal(image, images.image(place))
        assert np.array_equal(label, images.label(place))


def test_counting_image_by_image_gives_the_confusion_of_evaluation(trial: Trial) -> None:
    network, images = trial.players["student"].network.eval(), trial.evaluation_images
    pairs = [(on_device(torch.from_numpy(images.images([i])), CPU, trial.dtype), images.label(i)) for i in range(3)]
    confusion = evaluate(network, images, device=CPU, dtype=trial.dtype)
    assert judge_by_image(network, pairs, len(images.class_names)).tolist() == confusion.tolist()
    assert confusion.sum() > 0


def test_the_bare_loop_trains_the_same_weights(trial: Trial, tmp_path: Path) -> None:
    bare = open_trial(SPEC, tmp_path, CPU)
    bare_steps(bare, [bare.streams.at(step) for step in range(3)], 0)
    loop_chunks(trial, 3)()
    for name, weight in trial.players["student"].network.named_parameters():
        torch.testing.assert_close(bare.players["student"].network.get_parameter(name), weight, msg=name)
    assert bare.teacher is not None
    assert trial.teacher is not None
    assert bare.teacher.updates == trial.teacher.updates == 3


def test_a_published_step_has_the_loss_of_ours_and_moves_both_networks(trial: Trial) -> None:
    step = published_steps(trial)
    step()
    plain = step.__closure__ and next(
        cell.cell_contents for cell in step.__closure__ if hasattr(cell.cell_contents, "losses")
    )
    batch = trial.streams.at(0)["labeled"]
    logits = trial.players["student"].network(batch.image)
    expected = torch.nn.functional.cross_entropy(logits, batch.label, ignore_index=255)
    assert plain.losses == pytest.approx([expected.item()], rel=1e-5)


def test_mixing_one_by_one_is_mixing_the_batch() -> None:
    mask, value = torch.rand(3, 1, 4, 5).round(), torch.rand(3, 2, 4, 5)
    assert torch.equal(cyclic_mix(mask, value), blend(mask, value, next_of_global_batch(value)))


def test_averaging_one_by_one_is_averaging() -> None:
    teacher, student = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = torch.lerp(student.weight, teacher.weight, 0.9)
    average_one_by_one(teacher, student, 0.9)
    torch.testing.assert_close(teacher.weight, expected)


def test_the_plain_augmentation_is_that_of_training() -> None:
    image, spec = torch.rand(2, 3, 32, 64), StrongAugmentation(jitter_probability=1.0, blur_probability=1.0)
    key = key_of(0, "strong_augmentation", 1)
    mine = strong_augmentation(image, key, spec)
    torch.testing.assert_close(plain_augmentation(image, key, spec), mine, atol=1e-5, rtol=1e-5)
    assert not torch.equal(mine, image)


def test_a_step_of_the_paper_costs_ten_teraflop() -> None:
    from trainer.spec import DeepLabV2

    assert step_flop(classmix_spec(DeepLabV2(), 512, 1024)) == pytest.approx(10.3e12, rel=0.01)  # docs/methods.md 2.7
