"""What starts next: the longest, nothing that delays a wide trial, nothing beyond the devices or the budget."""

from orchestrator.admission import Running, Start, TrialQueue, next_to_start
from orchestrator.order import Waiting


def trial(name: str, seconds: float, devices: int = 1, **more: object) -> Waiting:
    return Waiting(name, devices, seconds, **more)  # type: ignore[arg-type]


MANY = [trial(f"filler {number}", 9) for number in range(50)]
"""So much more work that no single trial is as long as the rest."""


def started(waiting: list[Waiting], running: list[Running], *nodes: int) -> tuple[str, int] | None:
    start = next_to_start(waiting, running, nodes)
    return None if start is None else (start.trial.trial_id, start.node)


def test_the_first_of_the_queue_starts_where_it_fits() -> None:
    assert started([trial("a", 9), *MANY], [], 2) == ("a", 0)


def test_nothing_starts_where_no_device_is_free_or_nothing_waits() -> None:
    assert started(MANY, [Running(2, 1.0)], 2) is None
    assert started([], [], 2) is None
    assert started(MANY, []) is None


def test_a_wide_trial_is_not_delayed_by_those_behind_it() -> None:
    queue = [trial("wide", 9, devices=4), trial("long", 6), trial("short", 5), *MANY]
    running = [Running(3, 5.0)]
    assert started(queue, running, 4) == ("short", 0)  # ends when the three devices come back, not after
    assert started([queue[0], queue[1]], running, 4) is None


def test_devices_that_the_wide_trial_will_not_need_may_be_used_for_long() -> None:
    queue = [trial("wide", 9, devices=3), trial("long", 60), *MANY]
    assert started(queue, [Running(3, 5.0)], 5) == ("wide", 0) or started(queue, [Running(3, 5.0)], 4) == ("long", 0)
    assert started(queue, [Running(2, 5.0), Running(1, 2.0)], 4) == ("long", 0)


def test_the_wide_trial_waits_for_the_node_that_is_free_soonest_and_the_others_work_on() -> None:
    queue = [trial("wide", 9, devices=4), trial("long", 60, devices=2), *MANY]
    running = [Running(2, 8.0, node=0), Running(2, 3.0, node=1)]
    assert started(queue, running, 4, 4) == ("long", 0)
    assert started(queue, [Running(2, 3.0, node=0), Running(2, 8.0, node=1)], 4, 4) == ("long", 1)


def test_a_trial_does_not_spread_over_nodes() -> None:
    assert started([trial("wide", 9, devices=4)], [Running(1, 1.0, node=0), Running(1, 1.0, node=1)], 4, 4) is None


def test_the_fullest_node_that_fits_is_taken() -> None:
    assert started([trial("a", 1), *MANY], [Running(3, 9.0, node=1), Running(4, 9.0, node=2)], 4, 4, 4) == ("a", 1)


def test_a_trial_wider_than_every_node_lets_the_others_pass() -> None:
    assert started([trial("wide", 9, devices=8), trial("a", 1)], [], 4, 4) == ("a", 0)


def test_a_trial_as_long_as_all_that_is_left_starts_before_larger_ones() -> None:
    queue = [trial("wide", 2, devices=4), trial("long", 5)]  # 8 and 5 device-seconds; on 4 devices 13 / 4 < 5
    assert started(queue, [], 4) == ("long", 0)
    assert started([*queue, trial("more", 2, devices=4)], [], 4) == ("wide", 0)


def test_a_trial_exactly_as_long_as_all_that_is_left_starts_first() -> None:
    queue = [trial("wide", 3, devices=2), trial("long", 6)]  # 6 and 6 device-seconds; on 2 devices 12 / 2 = 6
    assert started(queue, [], 2) == ("long", 0)


def test_what_running_trials_still_have_to_do_counts_as_left() -> None:
    queue = [trial("wide", 2, devices=4), trial("long", 5)]  # 13 device-seconds; on 5 devices 13 / 5 < 5
    assert started(queue, [Running(1, 1.0)], 5) == ("long", 0)
    assert started(queue, [Running(1, 20.0)], 5) == ("wide", 0)  # 33 / 5 > 5


def test_lost_nodes_admit_nothing_until_what_runs_fits_again() -> None:
    queue = TrialQueue([trial("a", 1), trial("b", 1), trial("c", 1)])
    assert queue.take([2], now=0.0) is not None
    assert queue.take([2], now=0.0) is not None
    queue.end("a", now=1.0)
    assert queue.take([1], now=1.0) is None
    assert queue.take([2], now=1.0) == trial("c", 1)


def test_a_queue_hands_out_every_trial_once_the_longest_first() -> None:
    queue = TrialQueue([trial("a", 1), trial("b", 3), trial("c", 2)])
    taken = [queue.take([9], now=0.0) for _ in range(4)]
    assert [item and item.trial_id for item in taken] == ["b", "c", "a", None]
    assert queue.is_over(0.0)


def test_a_late_trial_is_expected_any_moment_and_never_in_the_past() -> None:
    seen: list[float] = []

    def look(waiting: list[Waiting], running: list[Running], nodes: list[int]) -> Start | None:
        seen.extend(item.seconds_left for item in running)
        return Start(waiting[0], 0) if waiting and not running else None

    queue = TrialQueue([trial("a", 4)], choose=look)  # type: ignore[arg-type]
    for now in (0.0, 1.0, 9.0):
        queue.take([1], now)
    assert seen == [3.0, 0.0]


def test_a_budget_counts_what_ran_and_what_running_trials_will_take() -> None:
    queue = TrialQueue([trial("a", 4, devices=2), trial("b", 3), trial("c", 2)], budget=10)
    assert queue.take([9], now=0.0) == trial("a", 4, devices=2)
    assert queue.take([9], now=0.0) == trial("c", 2)  # 8 of 10 are promised: b does not fit
    assert queue.take([9], now=0.0) is None
    assert not queue.is_over(0.0)
    queue.end("c", now=2.0)
    queue.end("a", now=4.0)
    assert queue.spent(4.0) == 10.0
    assert queue.is_over(4.0)
    assert [item.trial_id for item in queue.waiting] == ["b"]


def test_trials_that_take_longer_than_expected_leave_room_for_fewer() -> None:
    queue = TrialQueue([trial(name, 1) for name in "abc"], budget=4)
    assert queue.take([1], now=0.0) is not None
    queue.end("a", now=3.0)  # three times its forecast: b will be so too, and 1 is left
    assert queue.take([1], now=3.0) is None
    assert queue.is_over(3.0)


def test_unfinished_trials_teach_nothing_about_lengths() -> None:
    queue = TrialQueue([trial(name, 1) for name in "abc"], budget=4)
    assert queue.take([1], now=0.0) is not None
    queue.end("a", now=3.0, is_done=False)
    assert queue.take([1], now=3.0) == trial("b", 1)


def test_with_a_budget_an_unknown_length_runs_alone_until_it_is_known() -> None:
    queue = TrialQueue([trial(name, 100, is_known=False) for name in "abc"], budget=10)
    assert queue.take([9], now=0.0) == trial("a", 100, is_known=False)
    assert queue.take([9], now=0.0) is None
    queue.end("a", now=4.0)
    assert queue.take([9], now=4.0) == trial("b", 4.0)
    assert queue.take([9], now=4.0) is None


def test_what_is_put_back_takes_its_place_by_what_is_left_of_it() -> None:
    queue = TrialQueue([trial("a", 9), trial("b", 3), trial("c", 1)])
    queue.take([1], now=0.0)
    queue.end("a", now=7.0, is_done=False)
    queue.put_back(trial("a", 2))
    assert [item.trial_id for item in queue.waiting] == ["b", "a", "c"]


def test_a_short_trial_wider_than_what_is_free_does_not_slip_in() -> None:
    queue = [trial("wide", 9, devices=4), trial("short", 1, devices=2), *MANY]
    assert started(queue[:2], [Running(3, 5.0)], 4) is None
    assert started(queue[:2], [Running(2, 5.0)], 4) == ("short", 0)


def test_with_a_budget_a_first_seed_comes_before_a_longer_second_one() -> None:
    trials = [trial("second", 9, layer=1), trial("first", 1)]
    assert TrialQueue(trials, budget=100).take([1], now=0.0) == trials[1]
    assert TrialQueue(trials).take([1], now=0.0) == trials[0]


def test_without_a_budget_known_lengths_stay_as_they_are() -> None:
    queue = TrialQueue([trial("a", 1), trial("b", 4), trial("c", 3)])
    queue.take([1], now=0.0)
    queue.end("b", now=8.0)
    assert queue.waiting == (trial("c", 3), trial("a", 1))


def test_what_finished_trials_took_is_held_against_their_forecasts_and_not_against_corrected_ones() -> None:
    queue = TrialQueue([trial(name, 1) for name in "abc"], budget=100)
    for name, began in (("a", 0.0), ("b", 3.0)):
        taken = queue.take([1], began)
        assert taken is not None
        assert taken.trial_id == name
        queue.end(name, began + 3.0)
    assert queue.waiting == (trial("c", 3.0),)


def test_corrected_lengths_are_put_in_order_and_so_is_what_comes_back() -> None:
    queue = TrialQueue([trial("a", 1), trial("b", 3), trial("c", 2)], budget=1000)
    queue.take([1], now=0.0)
    queue.end("b", now=6.0)
    assert queue.waiting == (trial("c", 4.0), trial("a", 2.0))
    queue.put_back(trial("b", 1.5))
    assert queue.waiting == (trial("c", 4.0), trial("b", 3.0), trial("a", 2.0))
    queue.take([1], now=6.0)
    queue.end("c", now=10.0)
    assert queue.waiting == (trial("b", 3.0), trial("a", 2.0))  # what came back is still known


def test_a_trial_of_no_length_teaches_nothing() -> None:
    queue = TrialQueue([trial("a", 0), trial("b", 1)], budget=10)
    assert queue.take([2], now=0.0) == trial("b", 1)
    assert queue.take([2], now=0.0) == trial("a", 0)
    queue.end("a", now=1.0)
    assert queue.running == ("b",)


def test_the_median_of_what_finished_trials_took_speaks_for_the_others() -> None:
    queue = TrialQueue([trial(name, 1) for name in "abcd"], budget=100)
    now = 0.0
    for name, seconds in (("a", 9.0), ("b", 1.0), ("c", 2.0)):
        queue.take([1], now)
        now += seconds
        queue.end(name, now)
    assert queue.waiting == (trial("d", 2.0),)
