"""Spec to networks, streams, optimizers and method: the only place where a name picks a class, split by kind."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from trainer.data.cache import CachedSplit, open_cache
from trainer.data.catalog import open_layout
from trainer.data.splits import Split, split_of
from trainer.data.streams import Streams
from trainer.distributed import shard, world_size
from trainer.methods.adversarial import AdversarialMethod
from trainer.methods.base import Method, Networks, Pool
from trainer.methods.dst_cbc import DSTCBCMethod
from trainer.methods.masks import MaskFn, blend_share, box_mask, class_mask, complex_mask, cow_mask
from trainer.methods.mix import MixMethod
from trainer.methods.s4gan import S4GANMethod
from trainer.methods.supervised import SupervisedMethod
from trainer.models.deeplab_v2 import make_deeplab_v2
from trainer.models.discriminators import ImageDiscriminator, PixelDiscriminator
from trainer.models.segmentation import COCO, IMAGENET, SegmentationNetwork
from trainer.models.timm_backbone import make_timm_network
from trainer.models.tiny import make_tiny_network
from trainer.models.weights import WeightsReport, load_weights
from trainer.optimizers import by_listings, with_repeats
from trainer.randomness import key_of
from trainer.schedules import RateFactor, constant, poly
from trainer.spec import (
    DSTCBC,
    S4GAN,
    SGD,
    Adam,
    Adversarial,
    DeepLabV2,
    Discriminator,
    InitialWeights,
    Mask,
    Mix,
    Supervised,
    TimmNetwork,
    TinyNetwork,
    TrialSpec,
)
from trainer.teacher import Teacher
from trainer.trial import Player, Trial

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


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


def _deeplab_v2(network: DeepLabV2, num_classes: int, kind: InitialWeights) -> tuple[SegmentationNetwork, str]:
    made = make_deeplab_v2(
        num_classes,
        depth={"resnet50": 50, "resnet101": 101}[network.backbone],  # type: ignore[arg-type]
        head_branches=network.head_branches,
        batch_norm=network.batch_norm,
        normalization=COCO if kind == "coco" else IMAGENET,
    )
    return made, network.backbone


def _tiny(network: TinyNetwork, num_classes: int, _kind: InitialWeights) -> tuple[SegmentationNetwork, str]:
    made = make_tiny_network(
        num_classes,
        width=network.width,
        output_stride=network.output_stride,
        head_branches=network.head_branches,
        batch_norm=network.batch_norm,
    )
    return made, "tiny"


def _timm(network: TimmNetwork, num_classes: int, _kind: InitialWeights) -> tuple[SegmentationNetwork, str]:
    made = make_timm_network(
        network.backbone,
        num_classes,
        output_stride=network.output_stride,
        head_branches=network.head_branches,
        batch_norm=network.batch_norm,
    )
    return made, f"timm/{network.backbone}"


NETWORKS: Mapping[str, Callable[[Any, int, InitialWeights], tuple[SegmentationNetwork, str]]] = {
    "deeplab_v2": _deeplab_v2,
    "tiny": _tiny,
    "timm": _timm,
}


def bare_network(spec: TrialSpec, num_classes: int) -> tuple[SegmentationNetwork, str]:
    """A spec's network before any weights are loaded, and the name its weight files go by."""
    return NETWORKS[spec.network.kind](spec.network, num_classes, spec.initial_weights)


def build_network(spec: TrialSpec, num_classes: int, weights: Path) -> tuple[SegmentationNetwork, WeightsReport]:
    """The student with its initial weights, on the CPU; random parts are drawn from the spec's seed.

    The draw is the same for every method of a table at one seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(spec.seed, "initial_weights") & 0x7FFF_FFFF)
        network, backbone = bare_network(spec, num_classes)
    report = load_weights(network, backbone=backbone, kind=spec.initial_weights, folder=weights)
    network.autocast_dtype = torch.bfloat16 if spec.precision == "bf16" else None
    return network, report


def _sgd(groups: list[dict[str, Any]], spec: SGD) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
    )


def _adam(groups: list[dict[str, Any]], spec: Adam) -> torch.optim.Optimizer:
    betas = (spec.beta1, spec.beta2)
    return torch.optim.Adam(groups, lr=spec.learning_rate, betas=betas, weight_decay=spec.weight_decay)


OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]], Any], torch.optim.Optimizer]] = {"sgd": _sgd, "adam": _adam}

SCHEDULES: Mapping[str, Callable[[Any], RateFactor]] = {
    "poly": lambda schedule: partial(poly, power=schedule.power),
    "constant": lambda _schedule: constant,
}


def build_student(spec: TrialSpec, network: SegmentationNetwork) -> Player:
    """The student's optimizer: the head learns faster by `head_multiplier`."""
    chosen = spec.optimizer
    backbone = [(1, network.backbone_parameters())]
    if chosen.repeats_backbone:
        backbone = list(by_listings(network.backbone))
    groups = with_repeats(backbone, chosen.learning_rate)
    groups += with_repeats([(1, network.head_parameters())], chosen.learning_rate * chosen.head_multiplier)
    return Player(network, lambda: OPTIMIZERS[chosen.kind]([dict(group) for group in groups], chosen))


DISCRIMINATORS: Mapping[str, Callable[[Any, int], nn.Module]] = {
    "adversarial": lambda method, num_classes: PixelDiscriminator(num_classes, method.discriminator.width),
    "s4gan": lambda method, num_classes: ImageDiscriminator(num_classes, method.discriminator.width, method.dropout),
}


def build_discriminator(spec: TrialSpec, num_classes: int) -> nn.Module:
    """The discriminator of a method that has one, with random weights drawn from the spec's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(spec.seed, "discriminator") & 0x7FFF_FFFF)
        return DISCRIMINATORS[spec.method.kind](spec.method, num_classes)


def build_second_player(chosen: Discriminator, network: nn.Module) -> Player:
    """The discriminator's optimizer: Adam (docs/methods.md, cards 4 and 5)."""
    betas, rate = (chosen.beta1, chosen.beta2), chosen.learning_rate
    return Player(network, lambda: torch.optim.Adam(network.parameters(), lr=rate, betas=betas))


def as_critic(network: nn.Module) -> Callable[..., Any]:
    """A network whose weights are out of gradients' reach: they pass through it to its input alone."""

    def judge(*inputs: Any) -> Any:
        weights = {name: weight.detach() for name, weight in network.named_parameters()}
        return functional_call(network, weights, inputs)

    return judge


def open_data(spec: TrialSpec, data: Path, cache: Path) -> tuple[CachedSplit, CachedSplit, Split]:
    """The cached training and evaluation images at the spec's size, built where missing, and the drawn split."""
    layout = open_layout(spec.dataset, data)
    train_images, eval_images = (
        open_cache(
            layout,
            split,
            height=spec.dataset.height,
            width=spec.dataset.width,
            folder=cache,
        )
        for split in (spec.dataset.train_split, spec.dataset.eval_split)
    )
    labelable = [name for name, has_label in zip(train_images.names, train_images.has_label, strict=True) if has_label]
    without = set(train_images.names) - set(labelable)
    return train_images, eval_images, split_of(spec, labelable, without)


def build_pools(split: Split, train: CachedSplit) -> dict[Pool, Sequence[int]]:
    """Places in the training cache of the labelled and the unlabelled images."""
    place = {name: index for index, name in enumerate(train.names)}
    return {"labeled": [place[name] for name in split.labeled], "unlabeled": [place[name] for name in split.unlabeled]}


def wrap_for_ranks(network: nn.Module, device: torch.device) -> nn.Module:
    """DDP where there are several ranks. Buffers are not broadcast: batch-norm statistics are global already.

    On the CPU, where a resumed run is promised the same bits, DDP may not lay its buckets out anew after the first
    step, since four ranks would then add up in another order; looking for unused parameters keeps it from that.
    """
    if world_size() == 1:
        return network
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified", UserWarning)
    with warnings.catch_warnings():
        # torch 2.14 renames broadcast_buffers, and 2.11 does not know the new name.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            network,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=device.type == "cpu",
        )


def build_trial(
    spec: TrialSpec, split: Split, train: CachedSplit, evaluation: CachedSplit, *, weights: Path, device: torch.device
) -> tuple[Trial, WeightsReport]:
    """Everything one rank trains with."""
    num_classes, dtype = len(train.class_names), DTYPES[spec.precision]
    method = build_method(spec, num_classes)
    network, report = build_network(spec, num_classes, weights)
    network.to(device=device, dtype=dtype)
    network.train()
    teacher = None if method.teacher is None else Teacher(network, method.teacher)
    players = {"student": build_student(spec, network)}
    networks = Networks(wrap_for_ranks(network, device), teacher)
    if method.discriminator is not None:
        second = build_discriminator(spec, num_classes).to(device=device, dtype=dtype)
        players["discriminator"] = build_second_player(method.discriminator, second)
        networks = replace(networks, discriminator=wrap_for_ranks(second, device), critic=as_critic(second))
    streams = Streams(
        method,
        train,
        build_pools(split, train),
        view=spec.view,
        seed=spec.seed,
        device=device,
        dtype=dtype,
    )
    trial = Trial(
        spec=spec,
        method=method,
        players=players,
        rate_factor=SCHEDULES[spec.schedule.kind](spec.schedule),
        teacher=teacher,
        networks=networks,
        streams=streams,
        evaluation_images=evaluation,
        device=device,
        dtype=dtype,
    )
    return trial, report
