"""The faster ways to a step beside the plain one: the same bits or the same losses to rounding, the same names, no
silent way back. Compiled networks are traced here and run uncompiled; tests/chaos/test_fast_paths.py compiles them.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.contracts import StopAt, losses_of, small_options, small_spec, train_small
from tests.rooms import Room
from trainer import fast
from trainer.build import build_trial, open_data
from trainer.checkpoint import to_bytes
from trainer.data.pixels import DevicePixels, bytes_of
from trainer.errors import SetupError
from trainer.fast import PLAIN, Ways, compile_networks, prepare_networks, ways_of
from trainer.methods.base import phase_at
from trainer.run import Outcome
from trainer.spec import NAMED_METHODS, SGD, RunOptions, TinyNetwork, TrialSpec, View
from trainer.trial import Trial
from trainer.trial_preview import preview_png

CPU = torch.device("cpu")
CHANNELS_LAST = Ways(memory_format=torch.channels_last)
CROPPED = View(crop_height=24, crop_width=40, flip=True)
traced = partial(compile_networks, mode="default", backend="eager")
"""torch.compile without a C++ compiler: the networks are traced into one graph each, which is run as it is."""

Losses = list[dict[str, float]]


def open_trial(spec: TrialSpec, data: Path, ways: Ways = PLAIN, *, on_device: bool = False) -> Trial:
    """What one process trains with; with `on_device` the CPU is the device that holds all images."""
    torch.set_num_threads(1)
    train, evaluation, split = open_data(spec, data / "data", data / "cache")
    chosen = Ways(ways.memory_format, DevicePixels(train, CPU)) if on_device else ways
    return build_trial(spec, split, train, evaluation, weights=data / "weights", device=CPU, ways=chosen)[0]


def close(losses: Losses, plain: Losses, *, rel: float) -> bool:
    """Whether every scalar of every step is the plain path's, to `rel` of it."""
    pairs = zip(losses, plain, strict=True)
    return len(plain) > 0 and all(mine == pytest.approx(other, rel=rel, abs=rel) for mine, other in pairs)


@pytest.fixture(scope="module")
def plain(small_data: Path) -> Callable[[TrialSpec], Losses]:
    """The losses of the plain path, trained once."""
    known: dict[str, Losses] = {}

    def losses(spec: TrialSpec) -> Losses:
        if spec.trial_id not in known:
            known[spec.trial_id] = losses_of(train_small(open_trial(spec, small_data)))
        return known[spec.trial_id]

    return losses


# --- the losses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["supervised", "s4gan", "dst_cbc", "complexmix"])
def test_channels_last_trains_the_same_to_rounding(name: str, small_data: Path, plain: Callable) -> None:
    spec = small_spec(name)
    trial = open_trial(spec, small_data, CHANNELS_LAST)
    weight = trial.players["student"].network.backbone.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert close(losses_of(train_small(trial)), plain(spec), rel=1e-9)


@pytest.mark.parametrize("view", [View(), CROPPED], ids=["whole", "cropped"])
@pytest.mark.parametrize("name", ["complexmix", "french as published", "dst_cbc going on from its best"])
def test_images_on_the_device_are_the_same_bits(name: str, view: View, small_data: Path, plain: Callable) -> None:
    spec = small_spec(name, view=view)
    assert losses_of(train_small(open_trial(spec, small_data, on_device=True))) == plain(spec)


def test_compiled_networks_train_the_same_to_rounding(small_data: Path, plain: Callable) -> None:
    spec = small_spec("complexmix")
    trial = open_trial(spec, small_data)
    traced(trial)
    assert close(losses_of(train_small(trial)), plain(spec), rel=1e-9)


# Over 20 steps of a small network at a rate of 0.002: measured 3e-7 in float32 channels-last and 3e-3 in bf16, whose
# numbers have eight bits. At 0.01 a difference of 1e-7 grows to 1e-2 within 15 steps, whatever makes it.
BOUNDS = {"float32": 1e-5, "bf16": 0.03}


@pytest.mark.parametrize("precision", BOUNDS)
def test_twenty_steps_stay_within_their_bound(precision: str, small_data: Path, plain: Callable) -> None:
    slow = SGD(learning_rate=0.002)
    wide = partial(small_spec, "classmix", network=TinyNetwork(width=8), optimizer=slow, num_steps=20)
    reference, spec = plain(wide(precision="float32")), wide(precision=precision)
    losses = losses_of(train_small(open_trial(spec, small_data, CHANNELS_LAST, on_device=True)))
    assert close(losses, reference, rel=BOUNDS[precision])
    assert losses != reference


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_layout_in_which_torch_would_spoil_memory_is_refused(precision: str, small_data: Path) -> None:
    with pytest.raises(SetupError, match=r"down.* strided 1 x 1 convolution of 4 channels.*network\.width=8"):
        open_trial(small_spec("classmix", precision=precision), small_data, CHANNELS_LAST)


# --- names and resume ---------------------------------------------------------------------------------------------


def test_no_way_changes_a_name_or_a_shape_in_a_checkpoint(small_data: Path) -> None:
    spec = small_spec("complexmix")
    trial, other = open_trial(spec, small_data, CHANNELS_LAST, on_device=True), open_trial(spec, small_data)
    traced(trial)
    assert _tensors(trial.state_dict()) == _tensors(other.state_dict())
    for each in (trial, other):
        train_small(each, stop_at=1)
    assert len(_tensors(trial.state_dict())) > 50
    assert _tensors(trial.state_dict()) == _tensors(other.state_dict())


def _tensors(state: Any, name: str = "") -> list[tuple[str, object]]:
    """Names of all values of a state, with the shape of those that are tensors."""
    if isinstance(state, dict):
        return [found for key, value in state.items() for found in _tensors(value, f"{name}/{key}")]
    return [(name, state.shape if isinstance(state, torch.Tensor) else type(state))]


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "channels_last": {"channels_last": True},
    "all": {"channels_last": True, "images_on_device": "always", "compile": "default"},
}


@pytest.fixture
def open_room(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Room]:
    monkeypatch.setattr(fast, "compile_networks", _traced_where_asked)

    def open_(folder: str, way: str) -> Room:
        return Room(small_spec("complexmix"), small_options(small_data, tmp_path / folder, **WAYS[way]))

    return open_


def _traced_where_asked(trial: Trial, mode: str) -> None:
    if mode != "off":
        traced(trial)


@pytest.mark.parametrize("way", ["channels_last", "all"])
def test_a_resume_by_one_way_gives_the_same_bits(way: str, open_room: Callable[..., Room]) -> None:
    whole, broken = open_room("whole", way), open_room("broken", way)
    assert whole.run() == Outcome("done")
    assert broken.run(StopAt(3)).kind == "stopped"
    assert broken.run() == Outcome("done")
    assert broken.finished().equals(whole.finished())


@pytest.mark.parametrize(("first", "then"), [("plain", "channels_last"), ("channels_last", "plain")])
def test_a_resume_by_another_way_goes_on_to_rounding(first: str, then: str, open_room: Callable[..., Room]) -> None:
    whole, broken = open_room("whole", "plain"), open_room("broken", first)
    whole.run()
    broken.run(StopAt(3))
    other = Room(broken.spec, open_room("broken", then).options)
    assert other.run() == Outcome("done")
    for network, tensors in whole.finished().weights.items():
        for key, tensor in (tensors or {}).items():
            torch.testing.assert_close(other.finished().weights[network][key], tensor, rtol=1e-9, atol=1e-9, msg=key)


def test_a_picture_is_drawn_by_the_plain_networks(small_data: Path) -> None:
    trial = open_trial(small_spec("classmix"), small_data)
    train_small(trial, stop_at=2)
    calls: list[str] = []
    before = to_bytes(trial.state_dict())
    trial.networks = replace(trial.networks, student=calls.append, teacher=calls.append)
    assert preview_png(trial, 2)
    assert calls == []
    assert to_bytes(trial.state_dict()) == before


# --- nothing falls back silently ----------------------------------------------------------------------------------


def test_cuda_graphs_are_refused_elsewhere(small_data: Path) -> None:
    with pytest.raises(SetupError, match="reduce-overhead replays CUDA graphs, but this trial computes on cpu"):
        compile_networks(open_trial(small_spec("classmix"), small_data), "reduce-overhead")


def test_compiling_over_ranks_is_refused(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = open_trial(small_spec("classmix"), small_data)
    monkeypatch.setattr(fast, "world_size", lambda: 2)
    with pytest.raises(SetupError, match="use --workers 1"):
        compile_networks(trial, "default")


def test_a_network_that_is_not_one_graph_ends_the_attempt(small_data: Path) -> None:
    trial = open_trial(small_spec("classmix"), small_data)
    student = trial.players["student"].network
    student.head.register_forward_hook(lambda _module, _given, scores: scores if scores.sum() < 1e9 else -scores)
    traced(trial)
    with pytest.raises(SetupError, match="(?s)could not compile a network here.*[Dd]ata-dependent branching"):
        train_small(trial, stop_at=1)
    trial.streams.close()


def test_compiling_and_recomputing_activations_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="Leave one of --compile and --activation-checkpointing out"):
        RunOptions(compile="default", activation_checkpointing=True)


def test_what_is_out_of_memory_is_not_compiled_and_says_so(small_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = open_trial(small_spec("classmix"), small_data)
    with caplog.at_level(logging.INFO, "mixgrid"):
        prepare_networks(trial, "default", saves_memory=True)
    assert "nothing is compiled: activations are computed again instead" in caplog.text
    assert trial.networks.student is trial.players["student"].network


class TestImagesOnTheDevice:
    def ways(self, data: Path, asked: str, *, saves_memory: bool = False, device: str = "cpu", **fields: Any) -> Ways:
        spec = small_spec("classmix", **fields)
        images, _, _ = open_data(spec, data / "data", data / "cache")
        options = RunOptions(images_on_device=asked)
        return ways_of(options, spec, images, torch.device(device), saves_memory=saves_memory)

    def test_without_room_they_are_refused(self, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trainer.data.pixels.free_bytes", lambda _device: 100_000)
        with pytest.raises(SetupError, match=r"16 training images of 32x64 take 0.0 GiB on cpu.*auto or never"):
            self.ways(small_data, "always")

    def test_a_view_that_resizes_is_refused(self, small_data: Path) -> None:
        resized = View(crop_height=32, crop_width=32, resize_height=(32, 48), resize_width=(64, 96))
        with pytest.raises(SetupError, match="view.resize_height"):
            self.ways(small_data, "always", view=resized)

    @pytest.mark.parametrize(
        ("free", "changes", "reason"),
        [
            (10**9, {"device": "cpu"}, "the mapped cache is in its memory already"),
            (10**9, {"saves_memory": True}, "memory is short"),
            (16 * 32 * 64 * 4, {}, "do not fit"),
        ],
    )
    def test_auto_says_why_they_stay_on_the_host(
        self,
        free: int,
        changes: dict[str, Any],
        reason: str,
        small_data: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(fast, "free_bytes", lambda _device: free)
        with caplog.at_level(logging.INFO, "mixgrid"):
            ways = self.ways(small_data, "auto", **{"device": "meta", **changes})
        assert ways.pixels is None
        assert f"training images stay on the host: {reason}" in caplog.text.replace("0.0 GiB ", "").replace(
            " into 0.0", ""
        )

    def test_auto_takes_them_where_they_fit(self, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("trainer.fast", "trainer.data.pixels"):
            monkeypatch.setattr(f"{module}.free_bytes", lambda _device: 2 * 16 * 32 * 64 * 4)
        assert isinstance(self.ways(small_data, "auto", device="meta").pixels, DevicePixels)

    def test_all_bytes_are_counted(self, small_data: Path) -> None:
        images, _, _ = open_data(small_spec("classmix"), small_data / "data", small_data / "cache")
        whole = images.images(range(16)).nbytes + images.labels(range(16)).nbytes
        assert bytes_of(images) == whole


# --- no question to the device ------------------------------------------------------------------------------------


class Questions(TorchDispatchMode):
    """Counts operations whose answer the host has to wait for: a number, or a shape that depends on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(self.WAITING):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMED_METHODS)
def test_a_step_asks_the_device_nothing(name: str, small_data: Path) -> None:
    trial = open_trial(small_spec(name, num_steps=20), small_data)
    train_small(trial, stop_at=4)
    step = 4
    batches, phase = trial.streams.whole(step), phase_at(trial.method.phases, step)
    with Questions() as questions:
        for objective in trial.method.objectives(trial.networks, batches, step):
            objective.loss.backward()
            trial.players[objective.player].step()
        if trial.teacher is not None and phase.has_teacher:
            trial.teacher.update(trial.players["student"].network)
    assert questions.asked == []


def test_a_question_is_noticed() -> None:
    with Questions() as questions:
        assert torch.ones(3).sum().item() == 3
        assert len(torch.eye(3).nonzero()) == 3
    assert questions.asked == ["_local_scalar_dense", "nonzero"]
