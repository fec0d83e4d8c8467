"""Whether a checkpoint fits the trial that is to go on from it: a state that does not is refused, never half loaded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from trainer.errors import SetupError
from trainer.reading import refuse_contradictions
from trainer.records import DamagedRecord, EvaluationRecord
from trainer.trial import Trial


class UnfitCheckpoint(SetupError):  # noqa: N818
    """A sealed checkpoint whose content is not that of a trial of this spec."""


def refuse_unfit(trial: Trial, state: Any, evaluations: Sequence[EvaluationRecord], *, step: int) -> None:
    """Compare a state and the history after `step` updates with what a trial of its spec has.

    Raises: UnfitCheckpoint naming the first difference in names, shapes, kinds of number or judgements, and the cure.
    """
    for misfit in _misfits(trial, state, evaluations, step):
        raise UnfitCheckpoint(
            f"the checkpoint after step {step} of {trial.spec.trial_id} does not fit its spec: {misfit}; "
            "start it anew with --restart"
        )


def _misfits(trial: Trial, state: Any, evaluations: Sequence[EvaluationRecord], step: int) -> Iterator[str]:
    try:
        refuse_contradictions(evaluations, trial.evaluation_images.class_names, trial.spec, until=step)
    except DamagedRecord as error:
        yield str(error)
    if not _has(state, "trial", "window") or not _has(state["trial"], "networks", "optimizers", "teacher", "round"):
        yield "its state lacks what a trial's state has"
        return
    given, wanted = state["trial"], trial.state_dict()
    yield from _differences(given["networks"], wanted["networks"], "networks")
    yield from _differences(given["teacher"], wanted["teacher"], "teacher")
    for name, player in trial.players.items():
        if not _has(given["optimizers"], name):
            yield f"no optimizer of the {name}"
        else:
            shapes = [p.shape for group in player.optimizer.param_groups for p in group["params"]]
            yield from _optimizer(given["optimizers"][name], wanted["optimizers"][name], shapes)
    yield from _round(given["round"], wanted["networks"]["student"])
    yield from _window(state["window"], step)


def _has(given: Any, *names: str) -> bool:
    return isinstance(given, Mapping) and all(name in given for name in names)


def _differences(given: Any, wanted: Any, place: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        for name in sorted(given.keys() ^ wanted.keys(), key=str):
            yield f"{place}.{name} is {'missing' if name in wanted else 'not known'}"
        for name in wanted.keys() & given.keys():
            yield from _differences(given[name], wanted[name], f"{place}.{name}")
    elif isinstance(wanted, Tensor) and isinstance(given, Tensor):
        if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
            yield f"{place} is {_shape(given)}, not {_shape(wanted)}"
    elif type(given) is not type(wanted):
        yield f"{place} is a {type(given).__name__}, not a {type(wanted).__name__}"


def _shape(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _optimizer(given: Any, wanted: Mapping[str, Any], shapes: list[Any]) -> Iterator[str]:
    if not _has(given, "state", "param_groups") or not isinstance(given["state"], Mapping):
        yield "the optimizer's state is none"
        return
    groups = given["param_groups"] if isinstance(given["param_groups"], list) else []
    if _numbers(groups, wanted["param_groups"]) != _numbers(wanted["param_groups"], groups):
        yield "the optimizer's groups are other ones"
    buffers = _buffers(wanted["param_groups"])
    if set(given["state"]) != set(range(len(shapes))) and (buffers or given["state"]):
        yield "the optimizer's state is that of other parameters"
        return
    for index, entry in given["state"].items():
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(name), Tensor) for name in buffers):
            yield f"optimizer state {index} lacks its momentum"
            continue
        for name, value in entry.items():
            if name != "step" and isinstance(value, Tensor) and value.shape != shapes[index]:
                yield f"optimizer state {index}.{name} is {_shape(value)}, not {list(shapes[index])}"


def _buffers(groups: list[Any]) -> tuple[str, ...]:
    """What a step of such groups leaves for each parameter: SGD's momentum, Adam's moments and its count."""
    if any("betas" in group for group in groups):
        return ("exp_avg", "exp_avg_sq", "step")
    return ("momentum_buffer",) if any(group.get("momentum") for group in groups) else ()


def _numbers(groups: list[Any], others: list[Any]) -> str:
    """What of optimizer groups decides a step, as far as both know it: a library's next release may know more.

    The learning rate is left out, being set at every step.
    """
    known = {name for other in others if isinstance(other, Mapping) for name in other} - {"lr"}
    kept = [{name: group[name] for name in known & group.keys()} for group in groups if isinstance(group, Mapping)]
    return repr([sorted(group.items()) for group in kept])


def _round(given: Any, student: Mapping[str, Any]) -> Iterator[str]:
    if not _has(given, "labels", "best"):
        yield "it does not say which labels its round has"
        return
    if not (given["labels"] is None or isinstance(given["labels"], str)):
        yield "the labels of its round are no digest"
    best = given["best"]
    if best is not None:
        if not (_has(best, "mean_iou", "weights") and isinstance(best["mean_iou"], float)):
            yield "its best weights are none"
        else:
            yield from _differences(best["weights"], student, "best weights")


def _window(given: Any, step: int) -> Iterator[str]:
    is_whole = _has(given, "sums", "counts", "first_step") and 0 <= _whole(given["first_step"]) <= step
    if not (is_whole and _has(given["sums"]) and _has(given["counts"])):
        yield "its open sums of scalars are none"
    elif given["sums"].keys() != given["counts"].keys():
        yield "its open sums of scalars do not fit their counts"
    elif not all(isinstance(total, Tensor) and total.numel() == 1 for total in given["sums"].values()):
        yield "an open sum of scalars is none"
    elif not all(_whole(count) > 0 for count in given["counts"].values()):
        yield "its open sums of scalars have no counts"


def _whole(given: Any) -> int:
    return given if type(given) is int else -1
