"""What is read off Ray's record of its tasks."""

from tests.benchmarks.trial_startup import SCHEDULED, first_of, median_of, processes


def task(name: str, start: float, seconds: float = 0.5) -> dict[str, object]:
    return {"ph": "X", "cat": f"task::{name}", "name": "execute", "ts": start * 1e6, "dur": seconds * 1e6}


TASKS = [
    task("A.run", 1.0),
    task("A.run", 11.0),
    task("A.run", 12.0),
    task("B.__init__", 11.5),
    task("C.__init__", 30.0),
]


def test_a_stage_is_the_first_task_of_its_name_within_the_time_of_the_trial() -> None:
    assert first_of(TASKS, "A.run", 10.0, 20.0) == 11.5
    assert first_of(TASKS, "A.run", 10.0, 20.0, at_end=False) == 11.0
    assert first_of(TASKS, "B.run", 10.0, 20.0) is None


def test_an_actor_that_was_constructed_is_a_process() -> None:
    assert processes(TASKS, 10.0, 20.0) == ["B"]


def test_a_stage_that_a_trial_has_no_record_of_has_no_median() -> None:
    lines = [
        {SCHEDULED: 5.0, "first step done": 8.0, "controller runs": 6.0},
        {SCHEDULED: 10.0, "first step done": 15.0},
    ]
    assert median_of(lines) == {SCHEDULED: 0.0, "first step done": 4.0}
