import pytest
import torch
from torch import nn

from trainer.models.batch_norm import GlobalBatchNorm2d
from trainer.models.resnet import ResNet


@pytest.fixture(scope="module")
def body() -> ResNet:
    with torch.device("meta"):
        return ResNet(101)


@pytest.mark.parametrize(("given", "wanted"), [((512, 1024), (65, 129)), ((321, 321), (41, 41))])
def test_feature_sizes_are_the_published_ones(body: ResNet, given: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert body(torch.empty(1, 3, *given, device="meta")).shape == (1, 2048, *wanted)


def test_the_stem_pools_with_ceil_mode(body: ResNet) -> None:
    stem = body.maxpool(body.conv1(torch.empty(1, 3, 512, 1024, device="meta")))
    assert stem.shape == (1, 64, 129, 257)


def test_only_the_first_1x1_of_stage_2_is_strided_in_the_stages(body: ResNet) -> None:
    stages = {f"layer{index}": getattr(body, f"layer{index}") for index in range(1, 5)}
    strided = [
        f"{stage}.{name}"
        for stage, module in stages.items()
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv2d) and child.stride != (1, 1)
    ]
    assert strided == ["layer2.0.conv1", "layer2.0.downsample.0"]


def test_every_block_of_stages_3_and_4_is_dilated(body: ResNet) -> None:
    for stage, dilation in ((body.layer1, 1), (body.layer2, 1), (body.layer3, 2), (body.layer4, 4)):
        assert {block.conv2.dilation for block in stage} == {(dilation, dilation)}
        assert {block.conv2.padding for block in stage} == {(dilation, dilation)}


def test_no_convolution_has_a_bias_and_every_batch_norm_is_global(body: ResNet) -> None:
    assert all(module.bias is None for module in body.modules() if isinstance(module, nn.Conv2d))
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 104
    assert all(type(module) is GlobalBatchNorm2d for module in norms)


@pytest.mark.parametrize("depth", [50, 101])
def test_names_and_shapes_are_those_of_the_published_files(depth: int, layouts: dict) -> None:
    with torch.device("meta"):
        state = ResNet(depth).state_dict()
    ours = {name: tuple(tensor.shape) for name, tensor in state.items() if "num_batches_tracked" not in name}
    published = {name: shape for name, shape in layouts[f"resnet{depth}"].items() if not name.startswith("fc.")}
    assert ours == published


def test_weights_start_normal_with_deviation_001() -> None:
    body = ResNet(50)
    assert body.layer4[0].conv2.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert body.bn1.weight.eq(1).all()
    assert body.bn1.bias.eq(0).all()


def test_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from 50, 101"):
        ResNet(34)
