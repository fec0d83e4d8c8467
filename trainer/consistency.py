"""What a record must agree on with itself and with its spec before its numbers count. Loads neither torch nor ray.

Rounding is forgiven, a contradiction is not: a seal only says that nobody changed a record since it was written.
"""

import math
from collections.abc import Sequence

from trainer.spec import TrialSpec

Confusion = Sequence[Sequence[int]]
_ROUNDING = 1e-9


def ious_of(confusion: Confusion) -> list[float | None]:
    """Intersection over union of each class, None for a class in neither truth nor prediction.

    Raises: ValueError where the counts are not square.
    """
    if any(len(row) != len(confusion) for row in confusion):
        raise ValueError(f"the confusion matrix is not square: {[len(row) for row in confusion][:20]}")
    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    unions = [sum(row) + predicted[index] - row[index] for index, row in enumerate(confusion)]
    return [confusion[index][index] / union if union else None for index, union in enumerate(unions)]


def refuse_other_ious(confusion: Confusion, class_iou: Sequence[float | None], mean_iou: float | None) -> None:
    """Raises: ValueError where the IoUs of an evaluation do not follow from its counts."""
    ious = ious_of(confusion)
    if len(class_iou) != len(ious) or not all(map(_is_equal, class_iou, ious)):
        raise ValueError("class_iou does not follow from the confusion matrix")
    defined = [iou for iou in ious if iou is not None]
    mean = math.fsum(defined) / len(defined) if defined else None
    if not _is_equal(mean_iou, mean):
        raise ValueError(f"mean_iou {mean_iou} does not follow from the confusion matrix, which gives {mean}")


def _is_equal(given: float | None, wanted: float | None) -> bool:
    if given is None or wanted is None:
        return given is wanted
    return abs(given - wanted) <= _ROUNDING


def refuse_other_sizes(spec: TrialSpec, sizes: Sequence[tuple[int, int]]) -> None:
    """Raises: ValueError unless all was judged at the trained size, or, where files are judged as they are, at one."""
    trained = (spec.dataset.height, spec.dataset.width)
    wanted = {trained} if spec.evaluation.is_resized else set(sizes[:1])
    if not set(sizes) <= wanted or any(min(size) < 1 for size in sizes):
        raise ValueError(
            f"judged at {sorted(set(sizes))[:5]}, where {' or '.join(map(str, wanted))} alone is asked for"
        )


def refuse_other_judgements(spec: TrialSpec, judged: Sequence[tuple[int, str]], *, until: int) -> None:
    """Compare the evaluations of a trial's first `until` updates with what its spec asks for.

    Args:
        judged: (step, network) of each, in any order.
    Raises: ValueError naming one that is missing in number, given twice, or not asked for.
    """
    if until > spec.num_steps:
        raise ValueError(f"{until} updates are more than the {spec.num_steps} of the spec")
    if len(set(judged)) != len(judged):
        raise ValueError("a network is judged twice at one step")
    strange = [f"{network} at step {step}" for step, network in judged if not _is_asked_for(spec, step, network, until)]
    if strange:
        raise ValueError(f"its spec asks for no evaluation of {', '.join(strange[:5])}")
    wanted = _count_judgements(spec, until)  # counted, not listed: a spec may ask for billions
    if len(judged) != wanted:
        raise ValueError(f"{len(judged)} evaluations of the {wanted} that its spec asks for up to step {until}")


def _is_asked_for(spec: TrialSpec, step: int, network: str, until: int) -> bool:
    is_due = 1 <= step <= until and (step % spec.evaluation.every == 0 or step == spec.num_steps)
    start = 0 if network == "student" else spec.method.teacher_start
    return is_due and start is not None and step > start


def _count_judgements(spec: TrialSpec, until: int) -> int:
    every, start = spec.evaluation.every, spec.method.teacher_start
    is_last_extra = until == spec.num_steps and until % every != 0
    student = until // every + is_last_extra
    return student + (0 if start is None else student - min(start, until) // every)
