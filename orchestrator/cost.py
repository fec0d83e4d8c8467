"""What a trial costs before it is run: forward passes, FLOP, device memory, disk. Torch-free arithmetic, all estimates.

The constants were measured over `trainer.models` on torch's meta device, at 512 x 1024 and 19 classes (the tiny network
at 64 x 128); `tests/orchestrator/test_cost.py` measures them again. A discriminator is not counted: a few percent.
"""

from dataclasses import dataclass
from math import ceil

from trainer.spec import DSTCBC, Adam, DeepLabV2, Network, TimmNetwork, TinyNetwork, TrialSpec, count_labeled

ACHIEVED_FLOPS = (60e12, 100e12)
"""FLOP/s that DeepLab-V2 is assumed to achieve on one H100 in tf32 or bf16 (docs/methods.md, 2.7)."""
_PACKED = 0.05  # bytes a pixel of a pool's compressed label map: "a few hundredths" (trainer/data/pool_labels.py)
FULL_SIZE = 4.0
"""Pixels on disk for each trained one, as Cityscapes at 1024 x 2048 has them."""


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """Of one network, for each pixel of its input: multiply-adds of a forward pass and bytes kept for the backward pass
    in float32, the loss's own included; and counts of values: all that are stored, and those that are trained.

    `recomputed_bytes_per_pixel` is what activation checkpointing keeps, with the block that is computed again;
    `wide_bytes_per_pixel` is what bf16 does not halve: the losses at full size, and where a pooling found its maxima.
    """

    macs_per_pixel: float
    saved_bytes_per_pixel: float
    recomputed_bytes_per_pixel: float
    wide_bytes_per_pixel: float
    num_values: int
    num_trained: int


_WIDE = 85.0
# (multiply-adds of the body, bytes saved, recomputing, stored values, trained values); a head branch adds its own.
_RESNETS = {
    "resnet50": (387_381.0, 3901.1, 1974.5, 24_962_119, 24_155_366),
    "resnet101": (690_289.0, 7242.4, 3088.1, 44_006_522, 43_095_270),
}
_RESNET_WIDE = _WIDE + 32  # places of maxima, eight bytes each, of 64 channels at a sixteenth of the pixels
_RESNET_BRANCH = 5601.0
_EFFICIENTNETS = {8: (47_060.8, 4479.2, 1900.5), 16: (13_577.9, 2021.8, 839.1), 32: (7251.2, 1650.2, 833.1)}
_EFFICIENTNET_VALUES = (3_217_314, 3_068_326)
_EFFICIENTNET_BRANCH = 54_720.0  # divided by the square of the output stride
# Of the tiny network's width w: body a w^2 + 27/4 w, head branch 684 w / stride^2, saved 96 + s w, recomputing
# 97 + r w: exact.
_TINY = {4: (22.0, 13.52, 10.0), 8: (11.5, 9.77, 8.75)}


def network_cost(network: Network) -> NetworkCost | None:
    """What a network costs; None for one that nobody measured."""
    if isinstance(network, DeepLabV2):
        body, saved, recomputed, values, trained = _RESNETS[network.backbone]
        macs = body + network.head_branches * _RESNET_BRANCH
        return NetworkCost(macs, saved, recomputed, _RESNET_WIDE, values, trained)
    if isinstance(network, TinyNetwork):
        return _tiny_cost(network)
    return _timm_cost(network)


def _tiny_cost(network: TinyNetwork) -> NetworkCost:
    square, saved, recomputed = _TINY[network.output_stride]
    width = network.width
    head = network.head_branches * 684 * width / network.output_stride**2
    values = 298 * width**2 + 2805 * width + 76
    macs = square * width**2 + 6.75 * width + head
    return NetworkCost(macs, 96 + saved * width, 97 + recomputed * width, _WIDE, values, values)


def _timm_cost(network: TimmNetwork) -> NetworkCost | None:
    if network.backbone != "tf_efficientnet_lite0":
        return None
    body, saved, recomputed = _EFFICIENTNETS[network.output_stride]
    head = network.head_branches * _EFFICIENTNET_BRANCH / network.output_stride**2
    return NetworkCost(body + head, saved, recomputed, _WIDE, *_EFFICIENTNET_VALUES)


# --- time ---------------------------------------------------------------------------------------------------------


def trained_size(spec: TrialSpec) -> tuple[int, int]:
    """Height and width of what a training step sees."""
    return spec.view.crop_height or spec.dataset.height, spec.view.crop_width or spec.dataset.width


def start_batch(spec: TrialSpec) -> int:
    """Labelled images of a step of the supervised start."""
    return int(getattr(spec.method, "start_batch", None) or spec.labeled_batch)


def trial_flop(spec: TrialSpec, *, num_train: int, num_eval: int, first_step: int = 0) -> float | None:
    """FLOP from a step to the end of a trial, evaluations and a pool's labels included; None for an unknown network.

    A multiply-add is two, a backward pass costs two forward passes (docs/methods.md, 2.7).
    """
    cost = network_cost(spec.network)
    if cost is None:
        return None
    height, width = trained_size(spec)
    pixels = height * width * _training_forwards(spec)
    pixels += spec.dataset.height * spec.dataset.width * num_eval * judgements(spec) * _size_judged(spec)
    pixels += pool_pixels(spec, num_train)
    return 2 * cost.macs_per_pixel * pixels * (1 - min(first_step, spec.num_steps) / spec.num_steps)


def _training_forwards(spec: TrialSpec) -> float:
    start = spec.method.start_length
    later = spec.method.forward_units(spec.labeled_batch, spec.unlabeled_batch)
    return start * 3.0 * start_batch(spec) + (spec.num_steps - start) * later


def judgements(spec: TrialSpec) -> int:
    """How many times a network goes over the evaluation images."""
    every, first = spec.evaluation.every, spec.method.teacher_start
    times = ceil(spec.num_steps / every)
    return times if first is None else 2 * times - min(times, first // every)


def _size_judged(spec: TrialSpec) -> float:
    if spec.evaluation.protocol == "resized":
        return 1.0
    overlaps = spec.evaluation.protocol == "full_sliding"
    return FULL_SIZE / ((1 - spec.evaluation.window_overlap) ** 2 if overlaps else 1.0)


def pool_pixels(spec: TrialSpec, num_train: int) -> int:
    """Pixels of the pool's images that get labels, over all rounds; 0 for methods that label as they go."""
    if not isinstance(spec.method, DSTCBC):
        return 0
    num_pool = num_train - (count_labeled(spec.label_fraction, num_train) if spec.unlabeled_pool == "remainder" else 0)
    size = (spec.method.label_height or spec.dataset.height) * (spec.method.label_width or spec.dataset.width)
    return len(spec.method.label_ratios) * num_pool * size


# --- space --------------------------------------------------------------------------------------------------------


def pool_label_bytes(spec: TrialSpec, num_train: int) -> float:
    """Bytes of all rounds' labels of the unlabelled pool, which stay until the trial is done."""
    return _PACKED * pool_pixels(spec, num_train)


def kept_bytes(spec: TrialSpec) -> float | None:
    """Bytes of the weights that stay of a trial that is done: student and teacher."""
    cost = network_cost(spec.network)
    return None if cost is None else _value_bytes(spec) * cost.num_values * _networks(spec)


def checkpoint_bytes(spec: TrialSpec) -> float | None:
    """Bytes of one checkpoint: student, teacher and what the optimizer remembers."""
    cost, kept = network_cost(spec.network), kept_bytes(spec)
    return None if cost is None or kept is None else kept + _value_bytes(spec) * cost.num_trained * _moments(spec)


def memory_bytes(spec: TrialSpec, *, recomputes: bool = False) -> float | None:
    """Bytes of device memory that a trial holds in one process: state, gradients and what a backward pass needs, with
    activation checkpointing where it `recomputes`. Counted, not measured on a device.

    Each part of a step is backpropagated before the next is built, so the larger batch counts. cuDNN's work space,
    gradients of activations and the allocator's gaps come on top.
    """
    cost, state = network_cost(spec.network), checkpoint_bytes(spec)
    if cost is None or state is None:
        return None
    height, width = trained_size(spec)
    unlabeled = spec.unlabeled_batch if spec.method.wants_unlabeled else 0
    batch = max(spec.labeled_batch, unlabeled, start_batch(spec) if spec.method.start_length else 0)
    gradients = _value_bytes(spec) * cost.num_trained
    return state + gradients + batch * height * width * _kept_per_pixel(cost, spec, recomputes) + _casts(cost, spec)


def _kept_per_pixel(cost: NetworkCost, spec: TrialSpec, recomputes: bool) -> float:
    kept = cost.recomputed_bytes_per_pixel if recomputes else cost.saved_bytes_per_pixel
    if spec.precision == "bf16":
        return (kept + cost.wide_bytes_per_pixel) / 2
    return 2 * kept if spec.precision == "float64" else kept


def _casts(cost: NetworkCost, spec: TrialSpec) -> float:
    """Autocast keeps weights in bf16 as well for the length of a pass."""
    return 2.0 * cost.num_trained if spec.precision == "bf16" else 0.0


def _value_bytes(spec: TrialSpec) -> int:
    return 8 if spec.precision == "float64" else 4


def _networks(spec: TrialSpec) -> int:
    return 1 if spec.method.teacher_start is None else 2


def _moments(spec: TrialSpec) -> int:
    return 2 if isinstance(spec.optimizer, Adam) else int(spec.optimizer.momentum > 0)
