"""Judging a network: the whole of it beside its bare forward passes, and beside counting on the host image by image."""

from dataclasses import replace

import torch
from torch import Tensor

from orchestrator.bench.measuring import Figure, Setting, ratio_of, spread_of, take_turns
from orchestrator.bench.plain import forward_passes, judge_by_image
from orchestrator.bench.rooms import classmix_spec, open_trial, workspace
from trainer.data.resizing import Array
from trainer.data.streams import PIXELS_AT_ONCE, on_device
from trainer.evaluate import evaluate
from trainer.spec import DeepLabV2, TinyNetwork, TrialSpec
from trainer.trial import Trial

FORWARD, BY_IMAGE = "its forward passes", "counting on the host, image by image"


def measure_evaluate(setting: Setting) -> list[Figure]:
    """Seconds of an evaluation with the smallest network, whose forward passes hide the least, and with the paper's."""
    if setting.size == "small":
        return _measure("tiny 32x64", classmix_spec(TinyNetwork(), 32, 64, num_eval=4), setting)
    tiny = classmix_spec(TinyNetwork(), 512, 1024, num_eval=4)
    deeplab = classmix_spec(DeepLabV2(), 256, 512, num_eval=2)
    few = replace(setting, rounds=min(3, setting.rounds))
    return _measure("tiny 512x1024", tiny, setting) + _measure("DeepLab-V2 256x512", deeplab, few)


def _measure(name: str, spec: TrialSpec, setting: Setting) -> list[Figure]:
    height, width = spec.dataset.height, spec.dataset.width
    with workspace() as folder:
        trial = open_trial(spec, folder, setting.device)
        network, images = trial.players["student"].network.eval(), trial.evaluation_images
        num_classes = len(images.class_names)
        single = [_to_device(images.images([i]), trial) for i in range(len(images))]
        at_once = max(1, PIXELS_AT_ONCE // (height * width))
        batches = [torch.cat(single[first : first + at_once]) for first in range(0, len(single), at_once)]
        labels = images.labels(range(len(images)))
        calls = {
            "evaluate": lambda: evaluate(network, images, device=trial.device, dtype=trial.dtype),
            FORWARD: lambda: forward_passes(network, batches),
            BY_IMAGE: lambda: judge_by_image(network, zip(single, labels, strict=True), num_classes),
        }
        seconds = take_turns(calls, setting)
        trial.streams.close()
    mine = seconds["evaluate"]
    return [
        Figure("evaluate", name, spread_of(mine), FORWARD, ratio_of(mine, seconds[FORWARD]), "at most 1.15"),
        Figure("evaluate", name, spread_of(mine), BY_IMAGE, ratio_of(mine, seconds[BY_IMAGE])),
    ]


def _to_device(images: Array, trial: Trial) -> Tensor:
    return on_device(torch.from_numpy(images), trial.device, trial.dtype)
