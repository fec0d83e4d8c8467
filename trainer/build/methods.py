"""A method's spec to its method, a mask's to its function: the names of methods and masks are known here alone."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from trainer.distributed import shard
from trainer.methods.adversarial import AdversarialMethod
from trainer.methods.base import Method
from trainer.methods.dst_cbc import DSTCBCMethod
from trainer.methods.masks import MaskFn, blend_share, box_mask, class_mask, complex_mask, cow_mask
from trainer.methods.mix import MixMethod
from trainer.methods.s4gan import S4GANMethod
from trainer.methods.supervised import SupervisedMethod
from trainer.spec import DSTCBC, S4GAN, Adversarial, Mask, Mix, Supervised, TrialSpec


def build_mask(spec: Mask, num_classes: int) -> MaskFn:
    """The mask function of a mask spec."""
    makers: dict[str, Callable[[Any], MaskFn]] = {
        "box": lambda mask: partial(box_mask, spec=mask),
        "class": lambda mask: partial(class_mask, spec=mask, num_classes=num_classes),
        "cow": lambda mask: partial(cow_mask, spec=mask),
        "blend": lambda mask: partial(blend_share, spec=mask),
        "complex": lambda mask: partial(complex_mask, spec=mask, num_classes=num_classes),
    }
    return makers[spec.kind](spec)


def _supervised(spec: TrialSpec, _method: Supervised, _num_classes: int) -> Method:
    return SupervisedMethod(labeled_batch=spec.labeled_batch, num_steps=spec.num_steps)


def _mix(spec: TrialSpec, method: Mix, num_classes: int) -> Method:
    return MixMethod(
        method,
        build_mask(method.mask, num_classes),
        labeled_batch=spec.labeled_batch,
        unlabeled_batch=spec.unlabeled_batch,
        num_steps=spec.num_steps,
        seed=spec.seed,
    )


def _adversarial(spec: TrialSpec, method: Adversarial, num_classes: int) -> Method:
    return AdversarialMethod(
        method,
        num_classes=num_classes,
        labeled_batch=spec.labeled_batch,
        unlabeled_batch=spec.unlabeled_batch,
        num_steps=spec.num_steps,
    )


def _s4gan(spec: TrialSpec, method: S4GAN, num_classes: int) -> Method:
    return S4GANMethod(
        method,
        num_classes=num_classes,
        labeled_batch=spec.labeled_batch,
        unlabeled_batch=spec.unlabeled_batch,
        num_steps=spec.num_steps,
        seed=spec.seed,
    )


def _dst_cbc(spec: TrialSpec, method: DSTCBC, _num_classes: int) -> Method:
    return DSTCBCMethod(
        method, labeled_batch=spec.labeled_batch, unlabeled_batch=spec.unlabeled_batch, num_steps=spec.num_steps
    )


METHODS: Mapping[str, Callable[[TrialSpec, Any, int], Method]] = {
    "supervised": _supervised,
    "mix": _mix,
    "adversarial": _adversarial,
    "s4gan": _s4gan,
    "dst_cbc": _dst_cbc,
}


def build_method(spec: TrialSpec, num_classes: int) -> Method:
    """The method of a spec. Raises: SetupError where the world size does not divide every stream's batch."""
    method = METHODS[spec.method.kind](spec, spec.method, num_classes)
    for stream in method.streams:
        shard(stream.batch)
    return method
