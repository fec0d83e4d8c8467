"""Which trials come first, what a budget leaves out, and which further runs would tell most."""

import pytest

from orchestrator.order import Narrowing, Waiting, affordable, breadth_first, layers, longest_first, most_uncertain


def trial(name: str, seconds: float, devices: int = 1, **more: object) -> Waiting:
    return Waiting(name, devices, seconds, **more)  # type: ignore[arg-type]


def names(trials: list[Waiting]) -> str:
    return "".join(item.trial_id for item in trials)


def test_the_longest_come_first_by_device_seconds_and_equals_stay_as_given() -> None:
    queue = [trial("a", 1), trial("b", 3), trial("c", 1, devices=4), trial("d", 2), trial("e", 1, devices=2)]
    assert names(longest_first(queue)) == "cbdea"


def test_breadth_first_takes_a_layer_after_the_other_and_the_longest_of_each_first() -> None:
    queue = [trial("a", 1), trial("b", 9, layer=1), trial("c", 2), trial("d", 5, layer=2), trial("e", 9, layer=1)]
    assert names(breadth_first(queue)) == "cabed"


def test_seeds_that_are_there_already_come_before_those_that_wait() -> None:
    places = [("x", True), ("x", True), ("x", False), ("y", True), ("y", True), ("z", False)]
    assert layers(places) == [1, 2, 0, 0, 1, 0]


def test_what_does_not_fit_into_the_budget_is_passed_over_for_shorter_ones() -> None:
    queue = [trial("a", 5), trial("b", 4, devices=2), trial("c", 3), trial("d", 2), trial("e", 1)]
    assert names(affordable(queue, 10)) == "acd"
    assert names(affordable(queue, 9)) == "ace"
    assert affordable(queue, 0.5) == []


def test_a_length_that_nobody_knows_counts_as_all_that_is_left() -> None:
    queue = [trial("a", 5), trial("b", 1e9, is_known=False), trial("c", 1)]
    assert names(affordable(queue, 10)) == "ab"
    assert names(affordable(queue, 4)) == "b"
    assert affordable(queue, 0) == []


def narrowest(scores: dict[str, dict[int, float]], seeds: tuple[int, ...] = (0, 1, 2)) -> Narrowing | None:
    reference = {("Ref", "1/8"): {0: 0.0, 1: 0.0, 2: 0.0}}
    return most_uncertain(reference | {(row, "1/8"): own for row, own in scores.items()}, "Ref", seeds)


def test_the_comparison_with_the_largest_standard_error_is_named_with_the_seed_beyond_the_table() -> None:
    found = narrowest({"Calm": {0: 1.0, 1: 1.0, 2: 1.1}, "Wild": {0: 0.0, 1: 3.0, 2: 6.0}})
    assert found is not None
    # differences 0, 3, 6: std 3 over n - 1, so 3 / sqrt(3); with a fourth pair 3 / sqrt(4)
    assert (found.row, found.num_pairs, found.seeds) == ("Wild", 3, (3,))
    assert (found.standard_error, found.expected_error) == pytest.approx((3 / 3**0.5, 1.5))


def test_a_seed_of_the_table_comes_before_one_beyond_it() -> None:
    found = narrowest({"Wild": {0: 0.0, 2: 6.0}})
    assert found is not None
    assert found.seeds == (1,)
    assert found.expected_error == pytest.approx(18**0.5 / 3**0.5)


def test_a_comparison_without_two_pairs_is_the_least_certain_of_all() -> None:
    found = narrowest({"Wild": {0: 0.0, 1: 60.0}, "One": {1: 0.0}, "New": {}})
    assert found == Narrowing("New", "1/8", 0, None, (0, 1), None)
    assert narrowest({"Wild": {0: 0.0, 1: 60.0}, "One": {1: 0.0}}) == Narrowing("One", "1/8", 1, None, (0,), None)


def test_only_differences_from_the_reference_count_not_levels() -> None:
    scores = {("Ref", "1/8"): {0: 0.1, 1: 0.9}, ("Along", "1/8"): {0: 0.2, 1: 1.0}, ("Flat", "1/8"): {0: 0.5, 1: 0.5}}
    found = most_uncertain(scores, "Ref", (0, 1))
    assert found is not None
    assert found.row == "Flat"


def test_seeds_beyond_the_table_that_both_rows_have_count_and_the_next_one_comes_after_them() -> None:
    both = {0: 1.0, 1: 2.0, 5: 9.0}
    found = most_uncertain({("Ref", "1/8"): dict.fromkeys(both, 0.0), ("Row", "1/8"): both}, "Ref", (0, 1))
    assert found is not None
    assert (found.num_pairs, found.seeds) == (3, (6,))


def test_without_the_reference_at_a_fraction_nothing_is_compared() -> None:
    assert most_uncertain({("Row", "1"): {0: 1.0}, ("Ref", "1/8"): {0: 1.0}}, "Ref", (0,)) is None
