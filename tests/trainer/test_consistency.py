"""What an evaluation and a trial's evaluations must agree on, against the slow way of saying it."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts import small_spec
from trainer.build import build_method
from trainer.consistency import ious_of, refuse_other_ious, refuse_other_judgements
from trainer.methods.base import phase_at
from trainer.spec import NAMED_METHODS, Evaluation, Mix, Supervised, TrialSpec

matrices = st.integers(1, 4).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 5), min_size=size, max_size=size), min_size=size, max_size=size)
)


@settings(deadline=None, max_examples=100)
@given(matrices)
def test_ious_are_those_of_counting_pixel_by_pixel(confusion: list[list[int]]) -> None:
    for index, iou in enumerate(ious_of(confusion)):
        pixels = list(product(range(len(confusion)), repeat=2))
        union = sum(confusion[truth][said] for truth, said in pixels if index in (truth, said))
        assert iou == (confusion[index][index] / union if union else None)


def test_rounding_is_forgiven_and_another_number_is_not() -> None:
    confusion = ((2, 1), (0, 3))
    refuse_other_ious(confusion, (2 / 3, 0.75), (2 / 3 + 0.75) / 2)
    refuse_other_ious(confusion, (2 / 3, 0.75), (2 / 3 + 0.75) / 2 + 1e-12)
    for class_iou, mean_iou in (((0.67, 0.75), 0.71), ((2 / 3, 0.75), 0.7), ((2 / 3,), 2 / 3), ((2 / 3, None), 2 / 3)):
        with pytest.raises(ValueError, match="does not follow from the confusion matrix"):
            refuse_other_ious(confusion, class_iou, mean_iou)


def test_counts_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="not square"):
        ious_of(((1, 2), (3,)))


def asked_for(spec: TrialSpec, until: int) -> set[tuple[int, str]]:
    """The evaluations up to a step, by walking every step."""
    found = set()
    for step in range(1, until + 1):
        if step % spec.evaluation.every == 0 or step == spec.num_steps:
            found.add((step, "student"))
            if isinstance(spec.method, Mix) and step > spec.method.supervised_start:
                found.add((step, "teacher"))
    return found


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_evaluations_of_a_spec_are_accepted_and_any_other_number_of_them_is_not(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 30))
    start = data.draw(st.integers(0, steps - 1))
    method = data.draw(st.sampled_from([Supervised(), Mix(supervised_start=start)]))
    every = data.draw(st.integers(1, 40))
    spec = TrialSpec(method=method, num_steps=steps, evaluation=Evaluation(every=every), label_fraction="1/2")
    until = data.draw(st.integers(0, steps))
    asked = sorted(asked_for(spec, until))
    refuse_other_judgements(spec, asked, until=until)
    other = data.draw(st.tuples(st.integers(-1, steps + 2), st.sampled_from(["student", "teacher"])))
    changed = [judged for judged in asked if judged != other] if other in asked else [*asked, other]
    with pytest.raises(ValueError, match="evaluation"):
        refuse_other_judgements(spec, changed, until=until)


def test_billions_of_evaluations_are_not_listed() -> None:
    spec = TrialSpec(num_steps=2**31 - 1, evaluation=Evaluation(every=1))
    with pytest.raises(ValueError, match="0 evaluations of the 2147483647"):
        refuse_other_judgements(spec, [], until=2**31 - 1)


@pytest.mark.parametrize("name", NAMED_METHODS)
def test_a_spec_knows_from_when_its_method_has_a_teacher(name: str) -> None:
    spec = small_spec(name)
    method, start = build_method(spec, num_classes=4), spec.method.teacher_start
    for step in range(1, spec.num_steps + 1):
        has_teacher = method.teacher is not None and phase_at(method.phases, step - 1).has_teacher
        assert has_teacher == (start is not None and step > start)
