"""Specs to what trains: wrappers for ranks, learning rates, initial weights, pools."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from torch.nn.parallel import DistributedDataParallel

from tests.contracts import SMALL, same_tensors, small_method, small_spec, small_trial
from trainer import spec as specs
from trainer.build import DTYPES, METHODS, NETWORKS, PREDICTORS, bare_network, build_mask, build_network, build_pools
from trainer.data.splits import Split
from trainer.errors import SetupError
from trainer.evaluate import predict_sliding
from trainer.loop import judge
from trainer.losses import IGNORE_INDEX
from trainer.methods.mix import MixMethod
from trainer.models.segmentation import COCO, IMAGENET, SegmentationNetwork
from trainer.spec import NAMED_METHODS, SGD, DeepLabV2, Evaluation, Normalization, TinyNetwork, TrialSpec, View


def kinds(union: object) -> set[str]:
    """The kinds that an annotated union of specs allows."""
    return {part.model_fields["kind"].default for part in get_args(get_args(union)[0])}


def student_of(name: str, data: Path, **changes: object) -> SegmentationNetwork:
    trial = small_trial(small_spec(name, **changes), data)
    trial.streams.close()
    return trial.players["student"].network


# Torch renames broadcast_buffers, but its oldest release that we support knows the old name only.
old_name = pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated:FutureWarning")


@pytest.fixture
def two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real group of this process alone that says it has two ranks."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    monkeypatch.setattr("trainer.build.trials.world_size", lambda: 2)
    yield
    dist.destroy_process_group()


def test_every_kind_of_method_can_be_built() -> None:
    assert set(METHODS) == kinds(specs.Method)


def test_every_kind_of_network_can_be_built() -> None:
    assert set(NETWORKS) == kinds(specs.Network)


@pytest.mark.parametrize("kind", sorted(kinds(specs.Mask)))
def test_every_kind_of_mask_can_be_built(kind: str) -> None:
    mask = build_mask(TypeAdapter(specs.Mask).validate_python({"kind": kind}), 4)
    class_map, keys = torch.zeros(2, 16, 16, dtype=torch.int64), torch.tensor([1, 2])
    assert mask(class_map, keys, 3).shape == (2, 1, 16, 16)


def test_every_precision_has_a_dtype() -> None:
    assert set(DTYPES) == set(get_args(TrialSpec.model_fields["precision"].annotation))


@pytest.mark.parametrize("part", ["dataset", "network", "method"])
def test_an_unknown_kind_is_refused_before_anything_is_built(part: str) -> None:
    with pytest.raises(ValidationError, match="'surprise'"):
        TrialSpec.model_validate({part: {"kind": "surprise"}})


@old_name
def test_several_ranks_are_wrapped_and_buffers_are_not_broadcast(two_ranks: None, small_data: Path) -> None:
    trial = small_trial(small_spec("classmix"), small_data)
    assert isinstance(trial.networks.student, DistributedDataParallel)
    assert not trial.networks.student.broadcast_buffers
    assert trial.networks.student.module is trial.players["student"].network


@old_name
def test_neither_the_player_nor_the_teacher_is_wrapped(two_ranks: None, small_data: Path) -> None:
    trial = small_trial(small_spec("classmix"), small_data)
    assert not isinstance(trial.players["student"].network, DistributedDataParallel)
    assert not isinstance(trial.teacher.network, DistributedDataParallel)
    assert not any(name.startswith("module.") for name in trial.state_dict()["networks"]["student"])


def test_one_rank_is_not_wrapped(small_data: Path) -> None:
    trial = small_trial(small_spec("classmix"), small_data)
    assert trial.networks.student is trial.players["student"].network
    assert trial.networks.teacher is trial.teacher


def test_every_protocol_has_its_way_of_predicting() -> None:
    assert set(PREDICTORS) == set(get_args(Evaluation.model_fields["protocol"].annotation))


WHOLE_WINDOW = {"window_height": 16, "window_width": 24, "window_overlap": 0.5}


@pytest.mark.parametrize(
    ("view", "fields", "window", "overlap"),
    [
        (View(), {}, (32, 64), 1 / 3),
        (View(crop_height=8, crop_width=16), {}, (8, 16), 1 / 3),
        (View(crop_height=8, crop_width=16), WHOLE_WINDOW, (16, 24), 0.5),
    ],
)
def test_windows_have_their_own_size_else_that_of_the_crop_else_the_trained_one(
    view: View, fields: dict[str, object], window: tuple[int, int], overlap: float
) -> None:
    spec = small_spec("supervised", view=view, evaluation=Evaluation(protocol="full_sliding", **fields))
    chosen = PREDICTORS["full_sliding"](spec)
    assert isinstance(chosen, partial)
    assert (chosen.func, chosen.keywords) == (predict_sliding, {"window": window, "overlap": overlap})


@pytest.mark.parametrize("protocol", ["resized", "full_whole", "full_sliding"])
def test_a_trial_judges_as_its_protocol_says(protocol: str, small_data: Path) -> None:
    dataset = SMALL.model_copy(update={"height": 16, "width": 32})
    trial = small_trial(small_spec("supervised", dataset=dataset, evaluation=Evaluation(protocol=protocol)), small_data)
    images, network = trial.evaluation_images, trial.players["student"].network
    assert (images.height, images.width) == ((16, 32) if protocol == "resized" else (32, 64))
    assert trial.streams.at(0)["labeled"].image.shape[2:] == (16, 32)
    sizes = []
    network.backbone.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape[2:])))
    trial.streams.close()
    record, *_ = judge(trial, trial.method.phases[0], 1, lambda: None)
    assert record.eval_size == (images.height, images.width)
    assert set(sizes) == {(32, 64) if protocol == "full_whole" else (16, 32)}
    valid = sum(int((images.label(index) != IGNORE_INDEX).sum()) for index in range(len(images)))
    assert sum(map(sum, record.confusion)) == valid


def test_the_head_learns_faster_by_its_multiplier(small_data: Path) -> None:
    trial = small_trial(small_spec("supervised", optimizer=SGD(learning_rate=0.02, head_multiplier=5.0)), small_data)
    network, groups = trial.players["student"].network, trial.players["student"].optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.02, 0.1]
    assert list(map(id, groups[0]["params"])) == list(map(id, network.backbone_parameters()))
    assert list(map(id, groups[1]["params"])) == list(map(id, network.head_parameters()))


@pytest.mark.parametrize("batch_norm", ["trained", "batch_statistics", "frozen"])
def test_the_optimizer_holds_each_trained_weight_once(batch_norm: str, small_data: Path) -> None:
    trial = small_trial(small_spec("supervised", network=TinyNetwork(width=4, batch_norm=batch_norm)), small_data)
    player = trial.players["student"]
    held = [id(weight) for group in player.optimizer.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in player.network.parameters() if weight.requires_grad)


def test_momentum_and_weight_decay_are_the_specs(small_data: Path) -> None:
    trial = small_trial(small_spec("supervised", optimizer=SGD(momentum=0.5, weight_decay=0.25)), small_data)
    for group in trial.players["student"].optimizer.param_groups:
        assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.5, 0.25, False)


def test_all_methods_start_with_the_same_weights_at_one_seed(small_data: Path) -> None:
    first, *others = (student_of(name, small_data).state_dict() for name in NAMED_METHODS)
    assert all(same_tensors(first, other) for other in others)


def test_another_seed_starts_with_other_weights(small_data: Path) -> None:
    zero, one = (student_of("supervised", small_data, seed=seed) for seed in (0, 1))
    assert not torch.equal(zero.backbone.conv1.weight, one.backbone.conv1.weight)


def test_the_weights_do_not_hang_on_what_was_drawn_before(tmp_path: Path) -> None:
    spec, networks = small_spec("supervised"), []
    for _ in range(2):
        networks.append(build_network(spec, 4, tmp_path)[0].state_dict())
        torch.rand(1)
    assert same_tensors(*networks)


def test_building_a_network_leaves_torchs_own_draws_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_network(small_spec("supervised"), 4, tmp_path)
    assert torch.equal(torch.rand(3), expected)


# What each first layer sees of red 200, green 100, blue 50 (docs/methods.md; by hand).
PUBLISHED_MISTAKES = {
    "adversarial": (
        Normalization(channel_order="rgb", mean=(122.675, 116.669, 104.008), std=(1, 1, 1), scale=255),
        (77.325, -16.669, -54.008),
    ),
    "s4gan": (
        Normalization(channel_order="bgr", mean=(73.158, 82.909, 72.392), std=(255, 255, 255), scale=255),
        (-23.158 / 255, 17.091 / 255, 127.608 / 255),
    ),
    "classmix": (
        Normalization(channel_order="bgr", mean=(73.158, 82.909, 72.392), std=(1, 1, 1), scale=255),
        (-23.158, 17.091, 127.608),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED_MISTAKES)
def test_the_normalization_of_a_spec_is_what_student_and_teacher_are_given(name: str, small_data: Path) -> None:
    normalization, wanted = PUBLISHED_MISTAKES[name]
    trial = small_trial(small_spec("classmix", normalization=normalization), small_data)
    trial.streams.close()
    pixel = torch.tensor([200.0, 100.0, 50.0], dtype=torch.float64).view(1, 3, 1, 1) / 255
    for network in (trial.players["student"].network, trial.teacher.network):
        seen = []
        network.backbone.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        network.eval()(pixel.expand(1, 3, 8, 8))
        assert seen[0][0, :, 0, 0].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("kind", "published"), [("coco", COCO), ("imagenet", IMAGENET), ("random", IMAGENET)])
def test_without_a_normalization_it_is_that_of_the_initial_weights(kind: str, published: object) -> None:
    with torch.device("meta"):
        assert bare_network(TrialSpec(initial_weights=kind), 19)[0].normalization == published


def test_a_normalization_goes_before_that_of_the_initial_weights() -> None:
    spec = TrialSpec(initial_weights="coco", normalization=Normalization())
    with torch.device("meta"):
        network, backbone = bare_network(spec, 19)
    assert (network.normalization, backbone) == (IMAGENET, "resnet101")


@pytest.mark.parametrize(("body", "size"), [("caffe", (65, 129)), ("torchvision", (64, 128))])
def test_the_body_of_a_spec_is_built(body: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network, backbone = bare_network(TrialSpec(network=DeepLabV2(body=body)), 19)
        features = network.backbone(torch.empty(1, 3, 512, 1024))
    assert (backbone, features.shape[2:]) == ("resnet101", size)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64)])
def test_the_precision_decides_the_weights_dtype(precision: str, dtype: torch.dtype, small_data: Path) -> None:
    assert {weight.dtype for weight in student_of("supervised", small_data, precision=precision).parameters()} == {
        dtype
    }


def test_bf16_computes_its_features_in_bfloat16(small_data: Path) -> None:
    network, seen = student_of("supervised", small_data, precision="bf16"), []
    network.head.register_forward_hook(lambda module, given, features: seen.append(features.dtype))
    assert network(torch.rand(2, 3, 32, 64)).dtype == torch.float32
    assert seen == [torch.bfloat16]


def test_the_teacher_begins_as_the_student_and_is_its_own(small_data: Path) -> None:
    trial = small_trial(small_spec("classmix"), small_data)
    student = trial.players["student"].network
    assert same_tensors(trial.teacher.network.state_dict(), student.state_dict())
    assert not {id(weight) for weight in trial.teacher.network.parameters()} & {id(w) for w in student.parameters()}


def test_a_method_without_a_teacher_has_none(small_data: Path) -> None:
    trial = small_trial(small_spec("supervised"), small_data)
    assert (trial.teacher, trial.networks.teacher) == (None, None)


def test_a_named_mix_method_becomes_one(small_data: Path) -> None:
    trial = small_trial(small_spec("complexmix"), small_data)
    assert isinstance(trial.method, MixMethod)
    start = small_method("complexmix").supervised_start
    assert [(phase.first_step, phase.num_steps) for phase in trial.method.phases] == [(0, start), (start, 6 - start)]


def test_pools_are_places_in_the_cache(small_data: Path) -> None:
    trial = small_trial(small_spec("supervised"), small_data)
    split = Split(labeled=("02", "04"), unlabeled=("00",))
    assert build_pools(split, trial.evaluation_images) == {"labeled": [2, 4], "unlabeled": [0]}


def test_a_batch_that_ranks_cannot_share_is_refused_for_every_stream(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.distributed.world_size", lambda: 4)
    with pytest.raises(SetupError, match="a global batch of 6 cannot be shared by 4 ranks"):
        small_trial(small_spec("classmix", unlabeled_batch=6), small_data)
