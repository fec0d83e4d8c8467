"""What a run is to train becomes a queue that counts in workers."""

import pytest

from orchestrator.agenda import Agenda
from orchestrator.order import Waiting
from orchestrator.resources import Placement
from tests.orchestrator.conftest import small_table

CELLS = small_table().cells()


def test_lengths_on_one_device_are_spread_over_the_workers_of_a_trial() -> None:
    agenda = Agenda((Waiting(CELLS[0].trial_id, 1, 60.0, layer=3),))
    queue = agenda.queue(CELLS, Placement(workers=2))
    assert set(queue.waiting) == {
        Waiting(CELLS[0].trial_id, 2, 30.0, layer=3),
        Waiting(CELLS[1].trial_id, 2, 6.0, is_known=False),  # 12 steps
    }


@pytest.mark.parametrize(("gpus", "fitting"), [(1.0, 1), (0.5, 2), (0.0, 1)])
def test_a_budget_is_in_device_hours(gpus: float, fitting: int) -> None:
    lengths = tuple(Waiting(cell.trial_id, 1, 3600.0) for cell in CELLS)
    queue = Agenda(lengths, max_device_hours=1.0).queue(CELLS, Placement(gpus_per_worker=gpus))
    assert sum(queue.take([9], now=0.0) is not None for _ in range(3)) == fitting


def test_trials_at_once_are_limited_in_workers() -> None:
    assert Agenda(max_concurrent=3).most_slots(Placement(workers=2)) == 6
    assert Agenda().most_slots(Placement(workers=2)) == float("inf")


@pytest.mark.parametrize(
    "words", [{"max_concurrent": 0}, {"max_device_hours": 0.0}, {"max_device_hours": float("nan")}]
)
def test_limits_that_let_nothing_start_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give"):
        Agenda(**words)  # type: ignore[arg-type]
