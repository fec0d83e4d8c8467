"""All that one rank trains with: data, pools, players and method of a spec, put together."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer.build.methods import build_method
from trainer.build.networks import DTYPES, build_discriminator, build_network
from trainer.build.players import as_critic, build_second_player, build_student
from trainer.data.cache import CachedSplit
from trainer.data.opening import open_splits
from trainer.data.splits import Split, split_of
from trainer.data.streams import Streams
from trainer.distributed import world_size
from trainer.evaluate import Predict, predict_sliding, predict_whole
from trainer.fast import PLAIN, Ways, lay_out
from trainer.methods.base import Networks, Pool
from trainer.models.weights import WeightsReport
from trainer.schedules import RateFactor, constant, poly
from trainer.spec import TrialSpec
from trainer.teacher import Teacher
from trainer.trial import Trial

SCHEDULES: Mapping[str, Callable[[Any], RateFactor]] = {
    "poly": lambda schedule: partial(poly, power=schedule.power),
    "constant": lambda _schedule: constant,
}


def _sliding(spec: TrialSpec) -> Predict:
    """Windows of their own size, else of what a training step sees."""
    chosen, view, dataset = spec.evaluation, spec.view, spec.dataset
    height = chosen.window_height or view.crop_height or dataset.height
    width = chosen.window_width or view.crop_width or dataset.width
    return partial(predict_sliding, window=(height, width), overlap=chosen.window_overlap)


PREDICTORS: Mapping[str, Callable[[TrialSpec], Predict]] = {
    "resized": lambda _spec: predict_whole,
    "full_whole": lambda _spec: predict_whole,
    "full_sliding": _sliding,
}


def open_data(spec: TrialSpec, data: str | Path, cache: Path) -> tuple[CachedSplit, CachedSplit, Split]:
    """The cached training and evaluation images, built or copied where missing, and the drawn split."""
    train_images, eval_images = open_splits(spec, data, cache)
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
    spec: TrialSpec,
    split: Split,
    train: CachedSplit,
    evaluation: CachedSplit,
    *,
    weights: Path,
    device: torch.device,
    ways: Ways = PLAIN,
) -> tuple[Trial, WeightsReport]:
    """Everything one rank trains with; `ways` moves it faster and changes nothing that it is."""
    num_classes, dtype = len(train.class_names), DTYPES[spec.precision]
    method = build_method(spec, num_classes)
    network, report = build_network(spec, num_classes, weights)
    network.to(device=device, dtype=dtype)
    lay_out(network, ways.memory_format)  # before ranks share its gradients
    network.train()
    teacher = None if method.teacher is None else Teacher(network, method.teacher)
    players = {"student": build_student(spec, network)}
    networks = Networks(wrap_for_ranks(network, device), teacher)
    if method.discriminator is not None:
        second = build_discriminator(spec, num_classes).to(device=device, dtype=dtype)
        lay_out(second, ways.memory_format)
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
        pixels=ways.pixels,
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
        predict=PREDICTORS[spec.evaluation.protocol](spec),
    )
    return trial, report
