"""The window of training scalars, and records that count only once they are committed."""

import pytest
import torch

from trainer.journal import Journal, NonFiniteLoss, ScalarWindow
from trainer.records import EvaluationRecord, Segment


def scalars(**values: float) -> dict[str, torch.Tensor]:
    """One step's scalars."""
    return {name: torch.tensor(value) for name, value in values.items()}


def evaluation(step: int) -> EvaluationRecord:
    """A judgement of one pixel."""
    return EvaluationRecord(
        step=step,
        time=0.0,
        network="student",
        confusion=((1,),),
        class_iou=(1.0,),
        mean_iou=1.0,
        num_undefined=0,
        eval_size=(1, 1),
    )


def test_means_are_over_the_steps_since_the_last_record() -> None:
    window = ScalarWindow()
    for value in (1.0, 2.0, 6.0):
        window.add(scalars(loss=value))
    assert window.means(3) == {"loss": 3.0}
    window.add(scalars(loss=10.0))
    assert window.means(4) == {"loss": 10.0}


def test_a_scalar_that_comes_at_some_steps_is_averaged_over_those() -> None:
    window = ScalarWindow()
    window.add(scalars(loss=1.0))
    window.add(scalars(loss=3.0, unlabeled_loss=5.0))
    means = window.means(2)
    assert means == {"loss": 2.0, "unlabeled_loss": 5.0}
    assert list(means) == sorted(means)


def test_two_objectives_of_one_step_may_add_their_own_scalars() -> None:
    window = ScalarWindow()
    window.add(scalars(supervised_loss=1.0))
    window.add(scalars(unlabeled_loss=2.0))
    assert window.means(1) == {"supervised_loss": 1.0, "unlabeled_loss": 2.0}


def test_sums_are_kept_in_float64_and_without_a_graph() -> None:
    window = ScalarWindow()
    for _ in range(100):
        window.add({"loss": torch.tensor(2.0**24 + 2, requires_grad=True)})
    total = window.state_dict()["sums"]["loss"]
    assert total.dtype == torch.float64
    assert not total.requires_grad
    assert window.means(100) == {"loss": 2.0**24 + 2}


def test_a_window_without_scalars_has_no_means() -> None:
    assert ScalarWindow().means(5) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_steps(value: float) -> None:
    window = ScalarWindow()
    window.add(scalars(loss=1.0))
    window.means(10)
    window.add(scalars(loss=1.0, unlabeled_loss=value))
    window.add(scalars(loss=1.0, unlabeled_loss=0.5))
    with pytest.raises(NonFiniteLoss, match=r"unlabeled_loss is not finite between steps 10 and 20: lower optimizer"):
        window.check(20)
    with pytest.raises(NonFiniteLoss):
        window.means(20)


def test_a_window_goes_on_after_a_resume_where_it_was() -> None:
    window, resumed = ScalarWindow(), ScalarWindow()
    window.add(scalars(loss=1.0, other=8.0))
    window.means(5)
    window.add(scalars(loss=4.0))
    resumed.load_state_dict(window.state_dict(), torch.device("cpu"))
    for each in (window, resumed):
        each.add(scalars(loss=2.0))
    assert resumed.means(7) == window.means(7) == {"loss": 3.0}


def test_a_saved_window_does_not_change_when_the_window_goes_on() -> None:
    window, resumed = ScalarWindow(), ScalarWindow()
    window.add(scalars(loss=1.0))
    state = window.state_dict()
    window.add(scalars(loss=5.0))
    resumed.load_state_dict(state, torch.device("cpu"))
    assert resumed.means(1) == {"loss": 1.0}


def test_a_resumed_window_still_says_where_its_steps_began() -> None:
    window, resumed = ScalarWindow(), ScalarWindow()
    window.means(30)
    resumed.load_state_dict(window.state_dict(), torch.device("cpu"))
    resumed.add(scalars(loss=float("nan")))
    with pytest.raises(NonFiniteLoss, match="between steps 30 and 35"):
        resumed.check(35)


def test_records_are_pending_until_a_segment_is_committed() -> None:
    journal, segment = Journal((), ()), Segment(attempt="a", file="f", sha256_of_file="0")
    journal.train(5, {"loss": 1.0})
    journal.evaluation(evaluation(5))
    assert [record.step for record in journal.pending] == [5, 5]
    journal.committed(segment)
    assert journal.pending == []
    assert journal.segments == [segment]


def test_judgements_of_the_whole_history_are_kept_for_the_result() -> None:
    journal = Journal((), [evaluation(5)])
    journal.evaluation(evaluation(10))
    journal.committed(Segment(attempt="a", file="f", sha256_of_file="0"))
    assert [record.step for record in journal.evaluations] == [5, 10]


def test_a_journal_leaves_the_history_it_was_given_alone() -> None:
    history = [evaluation(5)]
    Journal((), history).evaluation(evaluation(10))
    assert len(history) == 1
