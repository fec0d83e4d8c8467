"""The cost of a trial: constants measured again on the meta device, and the arithmetic on them worked out by hand."""

from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.cost import (
    checkpoint_bytes,
    kept_bytes,
    memory_bytes,
    network_cost,
    pool_label_bytes,
    trained_size,
    trial_flop,
)
from trainer.build import bare_network
from trainer.models.recompute import blocks_of, recompute_activations
from trainer.models.segmentation import SegmentationNetwork
from trainer.spec import (
    NAMED_METHODS,
    SGD,
    Adam,
    DeepLabV2,
    Evaluation,
    Network,
    Supervised,
    TimmNetwork,
    TinyNetwork,
    TrialSpec,
    View,
)

MEASURED = (
    (DeepLabV2(), 512, 1024),
    (DeepLabV2(backbone="resnet50", batch_norm="trained"), 512, 1024),
    (DeepLabV2(head_branches=4, body="torchvision"), 512, 1024),
    (TinyNetwork(), 64, 128),
    (TinyNetwork(width=4, output_stride=8, head_branches=4), 64, 128),
    (TimmNetwork(), 512, 1024),
    (TimmNetwork(output_stride=32), 512, 1024),
    (TimmNetwork(output_stride=8), 512, 1024),
)
GIGA_MACS = 367.8e9  # of one 512 x 1024 forward (docs/methods.md, 2.7)


def on_meta(network: Network) -> SegmentationNetwork:
    with torch.device("meta"):
        made, _ = bare_network(TrialSpec(network=network, initial_weights="imagenet"), 19)
    return made.to("meta").train()


def logits_of(network: SegmentationNetwork, image: Tensor) -> Tensor:
    """The forward pass without autocast, which knows no meta device."""
    logits = network.head(network.backbone(network.normalize(image)))
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def saved_bytes(network: SegmentationNetwork, image: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> int:
    """Bytes of what a backward pass needs, the loss's own included; by default of the forward pass without autocast."""
    label = torch.empty(len(image), *image.shape[-2:], dtype=torch.int64, device=image.device)
    call = forward or (lambda given: logits_of(network, given))
    own = [*network.parameters(), *network.buffers(), image]
    return saved_by(lambda: F.cross_entropy(call(image), label), own)


def saved_by(call: Callable[[], object], others: Iterable[Tensor]) -> int:
    """Bytes of what a call saves for a backward pass, other tensors left out; each storage once."""
    own = {value.untyped_storage()._cdata for value in others}
    saved: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept.append(value)  # alive, so that no other storage takes its address
            saved[storage._cdata] = storage.nbytes()
        return value

    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        result = call()
    assert result is not None
    return sum(saved.values())


@pytest.mark.parametrize(("spec", "height", "width"), MEASURED, ids=lambda value: getattr(value, "kind", str(value)))
def test_the_constants_are_what_the_models_measure(spec: Network, height: int, width: int) -> None:
    """To 3 %: the body "torchvision" pools without the edge that "caffe" adds, which is 2.3 % of its pixels."""
    if spec.kind == "timm":
        pytest.importorskip("timm")
    network, cost = on_meta(spec), network_cost(spec)
    assert cost is not None
    image = torch.empty(1, 3, height, width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits_of(network, image)
    pixels = height * width
    assert counter.get_total_flops() / 2 / pixels == pytest.approx(cost.macs_per_pixel, rel=0.03)
    assert saved_bytes(network, image) / pixels == pytest.approx(cost.saved_bytes_per_pixel, rel=0.03)
    values = [
        *network.parameters(),
        *(buffer for name, buffer in network.named_buffers() if not name.startswith("input")),
    ]
    assert sum(value.numel() for value in values) == pytest.approx(cost.num_values, rel=0.05)


def kept_bytes_per_pixel(network: Network, height: int, width: int, *, precision: str, recomputes: bool) -> float:
    """What one more image keeps for the backward pass, under autocast too: networks of torch's fake tensors."""

    def kept(batch: int) -> int:
        with FakeTensorMode():
            made, _ = bare_network(TrialSpec(network=network, initial_weights="random"), 19)
            made.train().autocast_dtype = torch.bfloat16 if precision == "bf16" else None
            if recomputes:
                recompute_activations(made)
            return saved_bytes(made, torch.empty(batch, 3, height, width), forward=made)

    return (kept(2) - kept(1)) / (height * width)


def largest_block(network: Network, height: int, width: int) -> float:
    """Bytes for each pixel that the largest block keeps while it is computed again."""
    with FakeTensorMode():
        made, _ = bare_network(TrialSpec(network=network, initial_weights="random"), 19)
        inputs: dict[nn.Module, Tensor] = {}
        for block in blocks_of(made.train()):
            block.register_forward_pre_hook(lambda module, given: inputs.update({module: given[0].detach()}))
        made(torch.empty(1, 3, height, width))
        found = []
        for block, value in inputs.items():
            own = [*made.parameters(), *made.buffers()]
            found.append(saved_by(lambda block=block, value=value: block(value.requires_grad_() + 0), own))
    return max(found) / (height * width)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [(DeepLabV2(), 512, 1024), (TinyNetwork(), 64, 128), (TinyNetwork(width=4, output_stride=8), 64, 128)],
)
def test_bf16_halves_what_is_kept_but_for_what_is_wide(spec: Network, height: int, width: int) -> None:
    cost = network_cost(spec)
    assert cost is not None
    half = (cost.saved_bytes_per_pixel + cost.wide_bytes_per_pixel) / 2
    counted = kept_bytes_per_pixel(spec, height, width, precision="bf16", recomputes=False)
    assert counted == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [(DeepLabV2(), 512, 1024), (TinyNetwork(), 64, 128), (TinyNetwork(width=4, output_stride=8), 64, 128)],
)
def test_checkpointing_keeps_inputs_of_blocks_and_one_block(spec: Network, height: int, width: int) -> None:
    cost = network_cost(spec)
    assert cost is not None
    kept = kept_bytes_per_pixel(spec, height, width, precision="float32", recomputes=True)
    assert kept + largest_block(spec, height, width) == pytest.approx(cost.recomputed_bytes_per_pixel, rel=0.01)


def test_the_papers_trial_in_bf16_counts_less_than_a_third_of_16_gb() -> None:
    """The seed paper names 16 GB in total (docs/methods.md, 2.7): work space and temporary values have the rest."""
    spec = spec_of("complexmix", precision="bf16")
    needed, recomputing = memory_bytes(spec), memory_bytes(spec, recomputes=True)
    assert needed is not None
    assert recomputing is not None
    assert needed == pytest.approx(4.6e9, rel=0.02)
    assert recomputing == pytest.approx(2.5e9, rel=0.05)
    assert needed < 16e9 / 3


def test_an_unmeasured_network_has_no_cost() -> None:
    spec = TrialSpec(network=TimmNetwork(backbone="resnet18"), initial_weights="random")
    assert network_cost(spec.network) is None
    assert trial_flop(spec, num_train=10, num_eval=5) is None
    assert memory_bytes(spec) is None


def spec_of(method: str, **fields: object) -> TrialSpec:
    return TrialSpec(method=NAMED_METHODS[method], label_fraction="1/8", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "forwards"),
    [
        ("supervised", 40_000 * 6),
        ("classmix", 40_000 * 14),
        ("complexmix", 2000 * 6 + 38_000 * 14),
        ("adversarial", 40_000 * 12),
        ("dst_cbc", 8000 * 6 + 32_000 * 12 + 5 * 2603),
    ],
)
def test_the_flop_of_a_trial_are_those_of_its_forward_passes(method: str, forwards: int) -> None:
    flop = trial_flop(spec_of(method), num_train=2975, num_eval=0)
    assert flop == pytest.approx(2 * GIGA_MACS * forwards, rel=1e-3)


def test_evaluations_of_student_and_teacher_are_counted() -> None:
    spec = spec_of("complexmix", evaluation=Evaluation(every=1000))
    without, with_images = (trial_flop(spec, num_train=2975, num_eval=n) for n in (0, 500))
    assert without is not None
    assert with_images is not None
    assert with_images - without == pytest.approx(2 * GIGA_MACS * 500 * (40 + 38), rel=1e-3)


def test_half_a_trial_costs_half() -> None:
    whole, half = (trial_flop(spec_of("classmix"), num_train=1, num_eval=1, first_step=n) for n in (0, 20_000))
    assert whole is not None
    assert half == whole / 2


def test_a_crop_is_what_a_step_costs() -> None:
    spec = spec_of("supervised", view=View(crop_height=256, crop_width=512))
    assert trained_size(spec) == (256, 512)
    assert trial_flop(spec, num_train=1, num_eval=0) == pytest.approx(2 * GIGA_MACS * 40_000 * 6 / 4, rel=1e-3)


def test_checkpoints_hold_student_teacher_and_momentum() -> None:
    million = 44.0e6
    assert kept_bytes(spec_of("supervised")) == pytest.approx(4 * million, rel=0.01)
    assert kept_bytes(spec_of("classmix")) == pytest.approx(8 * million, rel=0.01)
    assert checkpoint_bytes(spec_of("classmix")) == pytest.approx(12 * million, rel=0.03)
    assert checkpoint_bytes(spec_of("classmix", optimizer=Adam())) == pytest.approx(16 * million, rel=0.03)
    assert checkpoint_bytes(spec_of("supervised", optimizer=SGD(momentum=0.0))) == kept_bytes(spec_of("supervised"))


def test_memory_grows_with_the_larger_batch() -> None:
    small, large, mixed = (
        memory_bytes(spec_of("classmix", labeled_batch=a, unlabeled_batch=b)) for a, b in ((1, 1), (3, 1), (1, 3))
    )
    assert small is not None
    assert large == mixed == pytest.approx(small + 2 * 512 * 1024 * 7242.4)


def test_a_batch_of_two_fits_a_card_of_12_gib() -> None:
    """Hung et al. trained two 512 x 1024 images on 12 GB (docs/methods.md, 2.7)."""
    needed = memory_bytes(TrialSpec(method=Supervised()))
    assert needed is not None
    assert 6 * 2**30 < needed < 12 * 2**30


def test_pool_labels_are_packed_at_their_own_size_for_every_round() -> None:
    spec = spec_of("dst_cbc")
    own = spec.method.model_copy(update={"label_height": 257, "label_width": 513})
    assert pool_label_bytes(spec, 2975) == pytest.approx(0.05 * 5 * 2603 * 512 * 1024)
    assert pool_label_bytes(spec.model_copy(update={"method": own}), 2975) == pytest.approx(0.05 * 5 * 2603 * 257 * 513)
    assert pool_label_bytes(spec_of("classmix"), 2975) == 0
