"""What only a CUDA device can show: the same draws and masks as on the CPU, and a trial that trains there."""

from pathlib import Path

import pytest
import torch

from tests.orchestrator.conftest import small_table
from trainer.build import build_mask
from trainer.host import NoHost
from trainer.randomness import fold, key_of, sample_keys, uniform
from trainer.records import Storage, read_result
from trainer.run import run_trial
from trainer.spec import NAMED_METHODS, Mix, RunOptions

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
