"""The roofline counts what a step really does: FLOP by another count, bytes by hand. No test here looks at a clock."""

import pytest
import torch
from torch import nn

from orchestrator.bench.measuring import Setting, spread_of
from orchestrator.bench.roofline import (
    OUTSIDE,
    WEIGHTS,
    Counting,
    Operation,
    Rates,
    bound_seconds,
    copy_rate,
    step_operations,
)
from orchestrator.bench.rooms import classmix_spec
from orchestrator.bench.steps import step_flop
from orchestrator.bench.ways import Roofline, Way, ways_in_reach, ways_on
from trainer.spec import DeepLabV2, TinyNetwork

SPEC = classmix_spec(TinyNetwork(width=4), 32, 64)


def test_a_convolution_by_hand() -> None:
    layer, image = nn.Conv2d(3, 8, 3, padding=1, bias=False, device="meta"), torch.empty(2, 3, 16, 32, device="meta")
    with Counting("stem") as counting:
        layer(image)
    pixels = 2 * 16 * 32
    assert counting.operations == [Operation("stem", 2 * 9 * 3 * 8 * pixels, 4 * (3 * pixels + 8 * pixels + 8 * 3 * 9))]


def test_a_view_moves_nothing_and_work_in_place_reads_and_writes() -> None:
    value = torch.empty(4, 6, device="meta")
    with Counting("none") as counting:
        value.transpose(0, 1)[0].unsqueeze(0)
        torch.empty_like(value)
        value.relu_()
        value.t().reshape(2, 12)  # a copy
    assert [one.moved for one in counting.operations] == [192, 192]


def test_the_flop_of_all_layers_are_those_of_a_step() -> None:
    """But for the gradient of the images, which nobody needs."""
    images, pixels = SPEC.labeled_batch + SPEC.unlabeled_batch, 32 * 64
    not_needed = 2 * (27 / 4 * 4) * pixels * images
    operations = step_operations(SPEC, 19)
    assert sum(one.flop for one in operations) == pytest.approx(step_flop(SPEC) - not_needed)


def test_every_layer_of_a_deeplab_has_a_roofline() -> None:
    operations = step_operations(classmix_spec(DeepLabV2(backbone="resnet50"), 64, 128), 19)
    names = list(dict.fromkeys(one.layer for one in operations))
    layers = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert names == [*layers, "head", OUTSIDE, WEIGHTS]


def test_bf16_moves_half_but_for_losses_and_weights() -> None:
    wide = {OUTSIDE, WEIGHTS}
    moved = {}
    for precision in ("float32", "bf16"):
        operations = step_operations(SPEC.model_copy(update={"precision": precision}), 8)
        moved[precision] = [
            sum(one.moved for one in operations if (one.layer in wide) == is_wide) for is_wide in (0, 1)
        ]
    assert moved["bf16"][0] == pytest.approx(moved["float32"][0] / 2, rel=0.05)
    assert moved["bf16"][1] == moved["float32"][1]


def test_an_operation_is_bound_by_what_takes_longer() -> None:
    operations = [Operation("a", 100, 10), Operation("a", 10, 100), Operation("b", 0, 30)]
    assert bound_seconds(operations, Rates(flop=10, moved=10)) == {"a": 20, "b": 3}


def test_a_step_at_its_roofline_has_a_share_of_one() -> None:
    roofline = Roofline("float32", [Operation("a", 100, 10), Operation("b", 0, 30)], Rates(flop=10, moved=10))
    shares = roofline.beside(spread_of([13.0]))
    assert shares["share_of_roofline"] == 1
    assert shares["share_of_product_peak"] == pytest.approx(100 / 13 / 10)


def test_copying_has_a_rate() -> None:
    assert copy_rate(Setting(torch.device("cpu"), size="small")) > 0


def test_every_option_of_a_gpu_is_measured_there_and_every_one_of_a_cpu_here() -> None:
    on_gpu = {option for way in ways_on("cuda", compiles=True) for option in way.options.items()}
    compiled = {("compile", "default"), ("compile", "reduce-overhead")}
    others = {("channels_last", True), ("images_on_device", "auto"), ("activation_checkpointing", True)}
    assert on_gpu == compiled | others
    assert {way.precision for way in ways_on("cuda", compiles=True)} == {"float32", "tf32", "bf16"}
    assert ways_on("cpu", compiles=False) == [
        way for way in ways_on("cpu", compiles=True) if "compile" not in way.options
    ]
    assert Way("bf16", {"channels_last": True, "compile": "default"}).name == "bf16 + channels_last + compile default"


@pytest.mark.parametrize(
    ("capability", "has"), [("AVX2", False), ("DEFAULT", False), ("AVX512", True), ("SVE256", True)]
)
def test_bf16_in_plain_loops_is_left_out(capability: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    ways = ways_on("cpu", compiles=True)
    assert ways_in_reach(ways, "cpu") == [way for way in ways if has or way.precision != "bf16"]
    assert ways_in_reach(ways, "cuda") == ways
