"""What only a CUDA device can show: the same draws and masks as on the CPU, and a trial that trains there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.contracts import StopAt, play, small_options, small_spec
from tests.orchestrator.conftest import small_table
from tests.rooms import Room
from trainer.build import build_mask, build_trial, open_data
from trainer.fast import ways_of
from trainer.host import NoHost
from trainer.metrics import confusion_of
from trainer.randomness import fold, key_of, sample_keys, uniform
from trainer.reading import read_result
from trainer.run import Outcome, run_trial
from trainer.spec import NAMED_METHODS, Mix, RunOptions
from trainer.storage import Storage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_draws_have_the_same_bits_on_the_gpu() -> None:
    keys = torch.arange(1000) * 7_654_321
    data = torch.arange(1000).flip(0)
    assert torch.equal(fold(keys, data), fold(keys.cuda(), data.cuda()).cpu())
    assert torch.equal(uniform(keys), uniform(keys.cuda()).cpu())


@pytest.mark.parametrize("name", [n for n, m in NAMED_METHODS.items() if isinstance(m, Mix) and m.mask.kind != "cow"])
def test_masks_are_the_same_on_the_gpu(name: str) -> None:
    method = NAMED_METHODS[name]
    assert isinstance(method, Mix)
    mask = build_mask(method.mask, 19)
    class_map = torch.randint(0, 19, (2, 8, 16)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    keys = sample_keys(key_of(0, "mix_mask", 3), torch.arange(2))
    assert torch.equal(mask(class_map, keys, 5), mask(class_map.cuda(), keys.cuda(), 5).cpu())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_a_trial_trains_on_the_gpu(precision: str, tmp_path: Path) -> None:
    cell = small_table().changed([f"precision={precision}"]).cells()[1]
    options = RunOptions(
        storage=str(tmp_path), data=str(tmp_path / "data"), cache=str(tmp_path / "cache"), device="cuda"
    )
    assert run_trial(cell.spec, options, NoHost()).kind == "done"
    result = read_result(Storage(str(tmp_path)), cell.trial_id)
    assert result is not None
    assert result.evaluations[-1].mean_iou is not None


@pytest.fixture
def open_room(small_data: Path, tmp_path: Path) -> Callable[..., Room]:
    def open_(name: str, folder: str, **changes: object) -> Room:
        options = small_options(small_data, tmp_path / folder, device="cuda", **changes)
        return Room(small_spec(name, precision="float32"), options)

    return open_


@pytest.mark.parametrize("name", NAMED_METHODS)
def test_a_resume_on_the_gpu_gives_the_same_bits_in_deterministic_mode(
    name: str, open_room: Callable[..., Room]
) -> None:
    whole, broken = (open_room(name, folder, deterministic=True) for folder in ("whole", "broken"))
    assert whole.run() == Outcome("done")
    assert broken.run(StopAt(3)).kind == "stopped"
    assert broken.run() == Outcome("done")
    assert broken.finished().equals(whole.finished())


@pytest.mark.parametrize("name", NAMED_METHODS)
def test_a_resume_on_the_gpu_stays_within_the_stated_tolerance(name: str, open_room: Callable[..., Room]) -> None:
    whole, broken = (open_room(name, folder) for folder in ("whole", "broken"))
    whole.run()
    broken.run(StopAt(3))
    broken.run()
    for network, tensors in whole.finished().weights.items():
        for key, tensor in (tensors or {}).items():
            there = broken.finished().weights[network][key]
            assert bool((there - tensor).abs().max() <= 1e-3 * tensor.abs().max()), f"{network} {key}"


def test_activation_checkpointing_needs_less_device_memory(open_room: Callable[..., Room]) -> None:
    peaks = []
    for saves in (False, True):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        assert open_room("classmix", str(saves), activation_checkpointing=saves).run() == Outcome("done")
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < peaks[0]


WAYS: dict[str, dict[str, object]] = {
    "channels-last": {"channels_last": True},
    "images on the device": {"images_on_device": "always"},
    "compiled": {"compile": "default"},
    "CUDA graphs": {"compile": "reduce-overhead"},
    "all": {"channels_last": True, "images_on_device": "always", "compile": "reduce-overhead"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["supervised", "complexmix", "s4gan"])
def test_a_faster_way_stays_within_the_tolerance_of_a_resume(
    name: str, way: str, open_room: Callable[..., Room]
) -> None:
    plain, fast = open_room(name, "plain"), open_room(name, "fast", **WAYS[way])
    for room in (plain, fast):
        assert room.run() == Outcome("done")
    for network, tensors in plain.finished().weights.items():
        for key, tensor in (tensors or {}).items():
            there = fast.finished().weights[network][key]
            assert bool((there - tensor).abs().max() <= 1e-3 * tensor.abs().max()), f"{network} {key}"


@pytest.mark.parametrize("way", [{}, WAYS["images on the device"]], ids=["plain", "images on the device"])
@pytest.mark.parametrize("name", ["supervised", "classmix", "complexmix"])
def test_a_step_never_waits_for_the_gpu(name: str, way: dict[str, object], small_data: Path) -> None:
    spec = small_spec(name, precision="float32")
    train_images, eval_images, split = open_data(spec, small_data / "data", small_data / "cache")
    device = torch.device("cuda", 0)
    ways = ways_of(RunOptions(**way), spec, train_images, device, saves_memory=False)
    trial, _ = build_trial(spec, split, train_images, eval_images, weights=small_data, device=device, ways=ways)
    for step in range(3):  # the first steps may ask cuDNN, and compute what later ones find
        for _ in play(trial, step):
            pass
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in play(trial, 3):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
        trial.streams.close()


def test_pixels_are_counted_on_the_gpu_as_on_the_cpu() -> None:
    label = torch.randint(0, 19, (2, 33, 64))
    label[0, :5] = 255
    prediction = torch.randint(0, 19, (2, 33, 64))
    assert torch.equal(confusion_of(prediction, label, 19), confusion_of(prediction.cuda(), label.cuda(), 19).cpu())
