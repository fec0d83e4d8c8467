"""Sums, partners and shares over three real ranks, where the next rank is not the one before; and alone."""

from pathlib import Path

import pytest
import torch

from tests.worlds import run_ranks
from trainer.distributed import (
    agree,
    alone,
    gather,
    global_sum,
    global_sum_with_gradient,
    next_of_global_batch,
    on_all_ranks,
    rank,
    shard,
    torchrun_group,
    world_size,
)

NUM_RANKS = 3
JOINED = torch.arange(2 * NUM_RANKS * 2, dtype=torch.float64).view(-1, 2)  # two samples a rank, two numbers a sample


def answer(folder: str) -> None:
    """Ask everything on one rank and save what it says."""
    mine = JOINED[shard(len(JOINED))].clone()
    by_itself = alone_on_rank_1(mine)
    leaf = mine.clone().requires_grad_()
    total = global_sum_with_gradient(leaf.sum())
    ((rank() + 1) * total).backward()  # every rank makes something else of the sum
    refusal = ""
    try:
        shard(4)
    except ValueError as error:
        refusal = str(error)
    answers = {
        "sum": global_sum(mine),
        "input": mine,
        "count": global_sum((mine > 3).sum()),
        "sum with gradient": total.detach(),
        "gradient": leaf.grad,
        "gathered": torch.cat(gather(mine)),
        "next": next_of_global_batch(mine),
        "shard": mine,
        "agreed": torch.tensor([agree(rank() == 0, mine.device), agree(rank() == 1, mine.device)]),
        "refusal": refusal,
        "alone": by_itself,
        "found": on_all_ranks(rank),
        "raised": what_all_ranks_raise(),
    }
    torch.save(answers, Path(folder) / f"{rank()}.pt")


def what_all_ranks_raise() -> str:
    """What every rank raises where only rank 1 has a reason to."""

    def find() -> None:
        if rank() == 1:
            raise OSError("rank 1 has no disk")

    try:
        on_all_ranks(find)
    except OSError as error:
        return str(error)
    return ""


def alone_on_rank_1(mine: torch.Tensor) -> torch.Tensor:
    """What a rank finds that asks while the others do not: it would wait for them for ever."""
    if rank() != 1:
        return mine
    with alone():
        assert (world_size(), rank(), shard(4)) == (1, 0, slice(0, 4))
        return next_of_global_batch(global_sum(mine))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("answers")
    run_ranks(answer, NUM_RANKS, str(folder))
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(NUM_RANKS)]


def joined(answers: list[dict], name: str) -> torch.Tensor:
    return torch.cat([said[name] for said in answers])


def test_a_sum_is_over_all_ranks_and_says_the_same_everywhere(answers: list[dict]) -> None:
    expected = JOINED.view(NUM_RANKS, 2, 2).sum(0)
    assert all(torch.equal(said["sum"], expected) for said in answers)


def test_a_sum_leaves_its_input_alone(answers: list[dict]) -> None:
    assert torch.equal(joined(answers, "input"), JOINED)


def test_counts_of_whole_numbers_are_summed_too(answers: list[dict]) -> None:
    assert all(said["count"] == (JOINED > 3).sum() and not said["count"].is_floating_point() for said in answers)


def test_the_gradient_of_a_sum_is_summed_over_ranks(answers: list[dict]) -> None:
    assert all(said["sum with gradient"] == JOINED.sum() for said in answers)
    assert all(torch.equal(said["gradient"], torch.full((2, 2), 6.0, dtype=torch.float64)) for said in answers)


def test_gathering_keeps_the_order_of_ranks(answers: list[dict]) -> None:
    assert all(torch.equal(said["gathered"], JOINED) for said in answers)


def test_shards_are_contiguous_and_cover_the_batch(answers: list[dict]) -> None:
    assert torch.equal(joined(answers, "shard"), JOINED)


def test_the_partner_is_the_next_of_the_global_batch(answers: list[dict]) -> None:
    assert torch.equal(joined(answers, "next"), JOINED.roll(-1, dims=0))


def test_every_rank_says_what_the_first_says(answers: list[dict]) -> None:
    assert all(said["agreed"].tolist() == [True, False] for said in answers)


def test_every_rank_finds_for_itself_and_an_error_of_one_is_an_error_of_all(answers: list[dict]) -> None:
    assert [said["found"] for said in answers] == [0, 1, 2]
    assert [said["raised"] for said in answers] == ["rank 1 has no disk"] * NUM_RANKS


def test_a_batch_that_ranks_cannot_share_is_refused(answers: list[dict]) -> None:
    assert all("a global batch of 4 cannot be shared by 3 ranks" in said["refusal"] for said in answers)


def test_a_rank_that_is_alone_asks_nobody_and_afterwards_is_one_of_many(answers: list[dict]) -> None:
    assert torch.equal(answers[1]["alone"], JOINED[2:4].roll(-1, dims=0))
    assert torch.equal(answers[0]["sum"], answers[1]["sum"])


def test_alone_a_process_is_the_whole_world() -> None:
    assert (world_size(), rank(), shard(5)) == (1, 0, slice(0, 5))
    assert torch.equal(next_of_global_batch(JOINED), JOINED.roll(-1, dims=0))
    assert torch.equal(global_sum(JOINED), JOINED)
    assert torch.equal(torch.cat(gather(JOINED)), JOINED)
    assert agree(True, JOINED.device)
    assert not agree(False, JOINED.device)


def test_alone_a_sum_is_detached_and_new_unless_its_gradient_is_wanted() -> None:
    leaf = JOINED.clone().requires_grad_()
    assert not global_sum(leaf).requires_grad
    assert global_sum(leaf).data_ptr() != leaf.data_ptr()
    assert global_sum_with_gradient(leaf).requires_grad


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with torchrun_group("cpu"):
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("on_this_host", "met"), [("2", []), ("1", ["node1"]), (None, [])])
def test_ranks_of_several_hosts_speak_over_the_network_by_which_they_meet(
    on_this_host: str | None, met: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    for name, word in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": on_this_host, "MASTER_ADDR": "node1"}.items():
        monkeypatch.setenv(name, word or "")
        if word is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr("trainer.distributed.speak_towards", told.append)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda _backend: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with torchrun_group("cpu"):
        assert told == met


def test_a_group_of_torchrun_is_taken_up_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", started.append)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: started.append("left"))
    with torchrun_group("cpu"):
        assert started == ["gloo"]
    assert started == ["gloo", "left"]
