"""The least time a step's operations can take on a device: FLOP and bytes of each, against what was measured there.

Operations are counted on torch's meta device, forward and backward, below the layer they belong to: no memory is taken
and nothing is computed. Source: Williams, Waterman and Patterson 2009, "Roofline", doi:10.1145/1498765.1498785.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from orchestrator.bench.measuring import Setting, product_peak, seconds_of
from orchestrator.cost import trained_size
from trainer.build import bare_network
from trainer.losses import supervised_loss
from trainer.models.segmentation import SegmentationNetwork
from trainer.spec import TrialSpec

OUTSIDE, WEIGHTS = "logits and loss", "optimizer and average"
_SGD_PASSES, _AVERAGE_PASSES = 5, 3  # weight, gradient, momentum read, two written; both weights read, one written


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: the layer it belongs to, its FLOP (a multiply-add is two), bytes it reads and writes."""

    layer: str
    flop: float
    moved: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device was measured to do: FLOP/s of matrix products and bytes/s, both directions together."""

    flop: float
    moved: float


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that touches memory as part of one layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._layer = layer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it, and note it unless it only looks at memory in another way, or asks for new memory."""
        result = func(*args, **(kwargs or {}))
        given, made = tensors_in((args, kwargs)), tensors_in(result)
        only_asks = func.overloadpacket.__name__.startswith(("empty", "new_empty"))
        if not only_asks and (func._schema.is_mutable or not _is_view(given, made)):
            count = flop_registry.get(func.overloadpacket)
            flop = count(*args, **(kwargs or {}), out_val=result) if count else 0
            moved = sum(_bytes(value) for value in (*given, *made))
            self.operations.append(Operation(self._layer, float(flop), float(moved)))
        return result


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors among arguments or results, at any depth."""
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _is_view(given: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    storages = {value.untyped_storage()._cdata for value in given}
    return all(value.untyped_storage()._cdata in storages for value in made)


def _bytes(value: Tensor) -> int:
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())


def step_operations(spec: TrialSpec, num_classes: int) -> list[Operation]:
    """What the networks, losses, optimizer and average of one step of a mean-teacher method do, eager and one by one.

    Counted as in the spec's precision: in bf16 backbone and head are, the losses at full size stay float32. Mixing,
    augmentation and the casts of autocast are left out: a few passes over images and weights.
    """
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    with torch.device("meta"):
        network, _ = bare_network(spec.model_copy(update={"initial_weights": "random"}), num_classes)
    network.to(dtype=dtype).train()
    height, width = trained_size(spec)
    shape = (spec.labeled_batch, 3, height, width)
    operations = pass_operations(network, shape, learns=True)
    if spec.method.wants_unlabeled:
        shape = (spec.unlabeled_batch, 3, height, width)
        operations += pass_operations(network, shape, learns=True) + pass_operations(network, shape, learns=False)
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    passes = _SGD_PASSES + (_AVERAGE_PASSES if spec.method.teacher_start is not None else 0)
    return [*operations, Operation(WEIGHTS, 0.0, 4.0 * passes * trained)]


def pass_operations(network: SegmentationNetwork, shape: Sequence[int], *, learns: bool) -> list[Operation]:
    """A network's operations on images [N, 3, H, W], layer by layer, backward too where it `learns`."""
    operations: list[Operation] = []
    layers = {**dict(network.backbone.named_children()), "head": network.head}
    inputs = inputs_of(network, layers, shape)
    for place, (name, layer) in enumerate(layers.items()):
        # Not a leaf, since layers may work in place; images get no gradient.
        value = torch.empty_like(inputs[name]).requires_grad_(learns and place > 0) + 0
        counting = Counting(name)
        with torch.set_grad_enabled(learns), counting:
            result = layer(value)
            if learns:
                result.backward(torch.empty_like(result))
        operations += counting.operations
    scores = torch.empty_like(result, dtype=torch.float32).requires_grad_(learns)
    return operations + _outside(scores, shape)


def inputs_of(network: SegmentationNetwork, layers: Mapping[str, nn.Module], shape: Sequence[int]) -> dict[str, Tensor]:
    """What each layer is given, found by hooks on a forward pass."""
    inputs: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _module, given, name=name: inputs.update({name: given[0]}))
        for name, layer in layers.items()
    ]
    image = torch.empty(*shape, device="meta", dtype=next(network.parameters()).dtype)
    with torch.no_grad():
        network.head(network.backbone(image))
    for hook in hooks:
        hook.remove()
    return inputs


def _outside(scores: Tensor, shape: Sequence[int]) -> list[Operation]:
    """Logits at the images' size, and what is made of them: a loss and its gradient, or probabilities and classes."""
    label = torch.zeros(shape[0], *shape[-2:], dtype=torch.int64, device="meta")
    counting = Counting(OUTSIDE)
    with torch.set_grad_enabled(scores.requires_grad), counting:
        logits = F.interpolate(scores, size=tuple(shape[-2:]), mode="bilinear", align_corners=True)
        if scores.requires_grad:
            supervised_loss(logits, label).backward()  # type: ignore[no-untyped-call]
        else:
            logits.softmax(dim=1).max(dim=1)
    return counting.operations


def bound_seconds(operations: Iterable[Operation], rates: Rates) -> Mapping[str, float]:
    """The least seconds of each layer: of each operation what it computes or what it moves, whichever takes longer."""
    seconds: dict[str, float] = {}
    for one in operations:
        least = max(one.flop / rates.flop, one.moved / rates.moved)
        seconds[one.layer] = seconds.get(one.layer, 0.0) + least
    return seconds


def measured_rates(setting: Setting, dtype: torch.dtype) -> Rates:
    """The device's rates, the best of a few tries of each."""
    return Rates(product_peak(setting, dtype), copy_rate(setting))


def copy_rate(setting: Setting) -> float:
    """Bytes/s of copying much more than a cache holds, read and written."""
    count = {"small": 2**20, "usual": 2**26, "paper": 2**26}[setting.size] * (4 if setting.device.type == "cuda" else 1)
    one = torch.ones(count, device=setting.device)
    other = torch.empty_like(one)
    return 2 * 4 * count / min(seconds_of(lambda: other.copy_(one), setting.device) for _ in range(8))
