"""Faster ways to the same step: compiled networks, another memory layout, all training images on the device.

Each is an option of a run and wraps what a trial is made of; loop, methods and storage know nothing of them. Names and
shapes in a checkpoint stay, so a trial may be gone on with by another way. Like another device, the first two move
roundings and nothing else: tests/trainer/test_fast.py holds them to bounds, docs/performance.md says what they gain.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Conv2d, Module

from trainer.data.cache import CachedSplit
from trainer.data.pixels import DevicePixels, Pixels, bytes_of, free_bytes
from trainer.distributed import world_size
from trainer.errors import SetupError
from trainer.methods.base import Network
from trainer.models.recompute import recompute_activations
from trainer.spec import Compile, RunOptions, TrialSpec
from trainer.trial import Trial

_LOG = logging.getLogger("mixgrid")
_SHARE_FOR_IMAGES = 0.5
"""Of a device's free memory, what `auto` gives to images; the rest is for the trial itself."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a trial is built with: the memory layout of its weights, and pixels other than those of the mapped cache."""

    memory_format: torch.memory_format = torch.contiguous_format
    pixels: Pixels | None = None


PLAIN = Ways()


def ways_of(
    options: RunOptions, spec: TrialSpec, images: CachedSplit, device: torch.device, *, saves_memory: bool
) -> Ways:
    """What a run's options come to on this device; what `auto` chose is logged.

    Raises: SetupError where images are always to be on the device, but the view resizes them or there is no room.
    """
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    if options.images_on_device == "never":
        return Ways(memory_format)
    resizes = spec.view.resize_height is not None
    if options.images_on_device == "always":
        if resizes:
            raise SetupError(
                "--images-on-device always: this spec's view resizes images (view.resize_height), which is done on the "
                "host; use --images-on-device auto or never"
            )
        return Ways(memory_format, DevicePixels(images, device))
    reason = _why_on_host(images, device, resizes=resizes, saves_memory=saves_memory)
    _LOG.info("training images stay on the %s", f"host: {reason}" if reason else "device")
    return Ways(memory_format, None if reason else DevicePixels(images, device))


def _why_on_host(images: CachedSplit, device: torch.device, *, resizes: bool, saves_memory: bool) -> str:
    """Why `auto` does not put images on the device; empty where it does."""
    if device.type == "cpu":
        return "the mapped cache is in its memory already"
    if resizes:
        return "the view resizes them"
    if saves_memory:
        return "memory is short"
    needed, given = bytes_of(images), _SHARE_FOR_IMAGES * free_bytes(device)
    return f"{needed / 2**30:.1f} GiB do not fit into {given / 2**30:.1f}" if needed > given else ""


_FEWEST_CHANNELS = 8
"""Of a strided 1 x 1 convolution with channels last on a CPU: with fewer the kernels of oneDNN 3.12 for AVX2 (torch
2.14) write beyond their memory in the backward pass, unseen or until the process is aborted. Seen with 4 and 6."""


def lay_out(network: Module, memory_format: torch.memory_format) -> None:
    """Put a network's weights into a memory layout.

    Raises: SetupError where torch's own kernels would spoil memory.
    """
    if memory_format == torch.channels_last:
        for name, layer in network.named_modules():
            if isinstance(layer, Conv2d) and _is_spoilt_by_channels_last(layer):
                raise SetupError(
                    f"--channels-last: {name} is a strided 1 x 1 convolution of {layer.in_channels} channels, in which "
                    f"torch's kernels for CPUs write beyond their memory. Leave --channels-last out, or take a wider "
                    f"network: --set network.width={_FEWEST_CHANNELS}"
                )
    network.to(memory_format=memory_format)


def _is_spoilt_by_channels_last(layer: Conv2d) -> bool:
    is_on_cpu = layer.weight.device.type == "cpu" and layer.weight.dtype != torch.float64
    return is_on_cpu and layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels < _FEWEST_CHANNELS


def prepare_networks(trial: Trial, mode: Compile, *, saves_memory: bool) -> None:
    """Compute activations again in the backward pass where memory is short, else compile where asked to."""
    if not saves_memory:
        compile_networks(trial, mode)
        return
    _LOG.info("activations are computed again in the backward pass, to save memory")
    if mode != "off":
        _LOG.warning("nothing is compiled: activations are computed again instead (--compile asked for it)")
    for player in trial.players.values():
        recompute_activations(player.network)


def compile_networks(trial: Trial, mode: Compile, *, backend: str = "inductor") -> None:
    """Compile what a training step calls: student and teacher, each as one graph, for each shape it is given.

    Judging and pictures go on with the plain networks, which own the weights. Nothing falls back silently: what cannot
    be one graph, or be compiled at all, ends the attempt.

    Raises: SetupError for several ranks, whose batch norms talk in the middle of a network, and for CUDA graphs on
    another device.
    """
    if mode == "off":
        return
    if world_size() > 1:
        raise SetupError(
            f"--compile {mode} is for trials of one process: over ranks every batch norm talks to the others in the "
            "middle of a network. Leave --compile out, or use --workers 1"
        )
    if mode == "reduce-overhead" and trial.device.type != "cuda":
        raise SetupError(
            f"--compile reduce-overhead replays CUDA graphs, but this trial computes on {trial.device}: use default"
        )
    torch._dynamo.reset()  # what an earlier trial of this process left counts no more
    teacher = trial.teacher
    trial.networks = replace(
        trial.networks,
        student=_compiled(trial.networks.student, mode, backend),
        teacher=None if teacher is None else _without_gradient(_compiled(teacher.network, mode, backend)),
    )
    _LOG.info("student%s are compiled (%s)", "" if teacher is None else " and teacher", mode)


def _compiled(network: Network, mode: Compile, backend: str) -> Network:
    from torch._dynamo.exc import TorchDynamoException  # costs a second to import: only where something is compiled

    options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": backend}
    if backend == "inductor":
        options["mode"] = mode
    compiled: Network = torch.compile(network, **options)

    def call(image: Tensor) -> Tensor:
        try:
            return compiled(image)
        except TorchDynamoException as error:
            raise SetupError(
                f"--compile {mode}: torch could not compile a network here; leave --compile out, or mend what it "
                f"names (on a CPU it wants a C++ compiler): {error}"
            ) from error

    return call


def _without_gradient(network: Network) -> Network:
    def call(image: Tensor) -> Tensor:
        with torch.no_grad():
            return network(image)

    return call
