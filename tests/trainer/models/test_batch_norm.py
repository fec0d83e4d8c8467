"""Two real ranks against torch's BatchNorm2d on the joined batch."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from trainer.models.batch_norm import GlobalBatchNorm2d, set_batch_norm_policy
from trainer.models.tiny import make_tiny_network

ROOT = Path(__file__).parents[3]
Result = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """Forwards of one module before one backward; `sizes` are the local batches of the two ranks."""

    sizes: tuple[int, int]
    num_forwards: int = 1
    dtype: torch.dtype = torch.float64
    offset: float = 0.0
    with_gradient: bool = True
    policy: str = "trained"
    network: bool = False
    tolerance: float = 1e-10


CASES = {
    "unequal batches": Case((3, 1)),
    "local batches of one": Case((1, 1)),
    "two forwards before a backward": Case((1, 2), num_forwards=2),
    "no gradient": Case((2, 2), num_forwards=2, with_gradient=False),
    "batch statistics without affine training": Case((1, 2), policy="batch_statistics"),
    "frozen": Case((1, 2), policy="frozen"),
    "float32": Case((2, 1), dtype=torch.float32, tolerance=1e-5),
    "float32 with a large mean": Case((2, 1), dtype=torch.float32, offset=300.0, tolerance=1e-3),
    "bfloat16 under autocast": Case((2, 1), dtype=torch.bfloat16, tolerance=5e-2),
    "a whole network": Case((1, 2), network=True, num_forwards=2),
}


def make_module(case: Case, norm: Callable[[int], nn.BatchNorm2d]) -> nn.Module:
    torch.manual_seed(1)
    if case.network:
        return make_tiny_network(3, width=4).double()
    module = norm(3).to(torch.promote_types(case.dtype, torch.float32))
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    set_batch_norm_policy(module, case.policy)
    return module


def make_batches(case: Case) -> list[tuple[Tensor, ...]]:
    """For each forward, the local batches of the ranks."""
    torch.manual_seed(2)
    joined = [
        torch.randn(sum(case.sizes), 3, 8, 12, dtype=torch.float64) + case.offset for _ in range(case.num_forwards)
    ]
    return [batch.to(case.dtype).split(case.sizes) for batch in joined]


def train(module: nn.Module, batches: list[Tensor], case: Case) -> Result:
    """Outputs and gradients along the batch; sums over it; buffers."""
    inputs = [batch.clone().requires_grad_(case.with_gradient) for batch in batches]
    with torch.set_grad_enabled(case.with_gradient), torch.autocast("cpu", enabled=case.dtype == torch.bfloat16):
        outputs = [module(value) for value in inputs]
    result = {f"batch: output {index}": output.detach() for index, output in enumerate(outputs)}
    if case.with_gradient:
        sum((output.double() ** 3).sum() / (1 + index) for index, output in enumerate(outputs)).backward()
        result |= {f"batch: input gradient {index}": value.grad for index, value in enumerate(inputs)}
        trained = {name: value.grad for name, value in module.named_parameters() if value.requires_grad}
        result |= {f"sum: gradient of {name}": gradient for name, gradient in trained.items()}
    return result | {f"equal: {name}": buffer for name, buffer in module.named_buffers()}


def work(rank: int, folder: str) -> None:
    """One rank: run every case and save what came out."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for name, case in CASES.items():
        local = [ranks[rank] for ranks in make_batches(case)]
        results[name] = train(make_module(case, GlobalBatchNorm2d), local, case)
    torch.save(results, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def rank_results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])  # the children import this module by its name
        multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_batch_norm_on_the_joined_batch(name: str, rank_results: list[dict[str, Result]]) -> None:
    case = CASES[name]
    joined = [torch.cat(ranks) for ranks in make_batches(case)]
    norm = GlobalBatchNorm2d if case.policy == "frozen" else nn.BatchNorm2d
    expected = train(make_module(case, norm), joined, case)
    first, second = (results[name] for results in rank_results)
    assert first.keys() == second.keys()
    for key in first:
        kind = key.partition(":")[0]
        both = {"batch": lambda a, b: torch.cat([a, b]), "sum": torch.add, "equal": lambda a, b: a}[kind]
        limits = {"atol": case.tolerance, "rtol": case.tolerance}
        torch.testing.assert_close(both(first[key], second[key]), expected[key], msg=lambda m: f"{key}: {m}", **limits)  # noqa: B023


@pytest.mark.parametrize("name", CASES)
def test_ranks_keep_the_same_bits_of_running_statistics(name: str, rank_results: list[dict[str, Result]]) -> None:
    first, second = (results[name] for results in rank_results)
    assert all(torch.equal(first[key], second[key]) for key in first if key.startswith("equal:"))


def test_one_process_repeats_batch_norm_2d_bit_for_bit() -> None:
    case = Case((2, 2), num_forwards=2)
    joined = [torch.cat(ranks) for ranks in make_batches(case)]
    ours, theirs = (train(make_module(case, norm), joined, case) for norm in (GlobalBatchNorm2d, nn.BatchNorm2d))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_state_dicts_fit_batch_norm_2d_both_ways() -> None:
    plain, ours = nn.BatchNorm2d(3), GlobalBatchNorm2d(3)
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours.load_state_dict(plain.state_dict())
    plain.load_state_dict(ours.state_dict())


@pytest.mark.parametrize(
    ("policy", "trains", "moves"),
    [("batch_statistics", False, True), ("frozen", False, False), ("trained", True, True)],
)
def test_a_policy_says_what_is_trained_and_what_moves(policy: str, trains: bool, moves: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), GlobalBatchNorm2d(4))
    set_batch_norm_policy(network, policy)
    before = network(torch.rand(2, 3, 4, 4))
    assert [parameter.requires_grad for parameter in network[1].parameters()] == [trains, trains]
    assert network[0].weight.requires_grad
    assert bool(network[1].running_mean.any()) == moves
    assert before.mean().abs() < 1e-6 or not moves


def test_frozen_is_the_same_in_train_and_in_eval_mode() -> None:
    network = GlobalBatchNorm2d(3)
    set_batch_norm_policy(network, "frozen")
    value = torch.rand(2, 3, 4, 4)
    assert torch.equal(network.train()(value), network.eval()(value))
    torch.testing.assert_close(network(value), value, rtol=1e-5, atol=1e-5)


def test_another_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_statistics, frozen, trained"):
        set_batch_norm_policy(nn.Sequential(), "eval")
