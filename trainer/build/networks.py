"""A network's spec to its network with initial weights, students and discriminators alike; nothing of training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.models.deeplab_v2 import make_deeplab_v2
from trainer.models.discriminators import ImageDiscriminator, PixelDiscriminator
from trainer.models.resnet import CAFFE, TORCHVISION
from trainer.models.segmentation import COCO, IMAGENET, Normalization, SegmentationNetwork
from trainer.models.timm_backbone import make_timm_network
from trainer.models.tiny import make_tiny_network
from trainer.models.weights import WeightsReport, load_weights
from trainer.randomness import key_of
from trainer.spec import DeepLabV2, InitialWeights, TimmNetwork, TinyNetwork, TrialSpec

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


def _deeplab_v2(network: DeepLabV2, num_classes: int, kind: InitialWeights) -> tuple[SegmentationNetwork, str]:
    made = make_deeplab_v2(
        num_classes,
        depth={"resnet50": 50, "resnet101": 101}[network.backbone],  # type: ignore[arg-type]
        body={"caffe": CAFFE, "torchvision": TORCHVISION}[network.body],
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
    network, name = NETWORKS[spec.network.kind](spec.network, num_classes, spec.initial_weights)
    chosen = spec.normalization
    if chosen is not None:
        network.normalize_by(Normalization(chosen.mean, chosen.std, chosen.scale, chosen.channel_order == "bgr"))
    return network, name


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


DISCRIMINATORS: Mapping[str, Callable[[Any, int], nn.Module]] = {
    "adversarial": lambda method, num_classes: PixelDiscriminator(num_classes, method.discriminator.width),
    "s4gan": lambda method, num_classes: ImageDiscriminator(num_classes, method.discriminator.width, method.dropout),
}


def build_discriminator(spec: TrialSpec, num_classes: int) -> nn.Module:
    """The discriminator of a method that has one, with random weights drawn from the spec's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(spec.seed, "discriminator") & 0x7FFF_FFFF)
        return DISCRIMINATORS[spec.method.kind](spec.method, num_classes)
