import pytest
import torch
from torch import nn

from trainer.models.batch_norm import GlobalBatchNorm2d
from trainer.models.resnet import CAFFE, TORCHVISION, ResNet

BODIES = (CAFFE, TORCHVISION)


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


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's ResNet-50 as DST-CBC asks for it, with running statistics that are not the initial ones."""
    from torchvision.models import resnet50

    torch.manual_seed(3)
    network = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return network.eval()


def torchvision_features(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    stem = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    return network.layer4(network.layer3(network.layer2(network.layer1(stem))))


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (71, 90)])
@torch.no_grad()
def test_the_torchvision_body_gives_torchvisions_features(theirs: nn.Module, size: tuple[int, int]) -> None:
    ours = ResNet(50, TORCHVISION).eval()
    loaded = ours.load_state_dict({name: t for name, t in theirs.state_dict().items() if not name.startswith("fc.")})
    assert (loaded.missing_keys, loaded.unexpected_keys) == ([], [])
    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(ours(image), torchvision_features(theirs, image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_caffe_body_gives_other_features_from_the_same_tensors(theirs: nn.Module) -> None:
    ours = ResNet(50, CAFFE).eval()
    ours.load_state_dict({name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")})
    image = torch.rand(1, 3, 65, 97)  # where ceil-mode pooling changes no size
    features = torchvision_features(theirs, image)
    assert ours(image).shape == features.shape
    assert (ours(image) - features).abs().max() > 0.01


def test_the_torchvision_body_strides_in_the_3x3_and_pools_without_ceil() -> None:
    with torch.device("meta"):
        body = ResNet(101, TORCHVISION)
    convolutions = {name: m for name, m in body.named_modules() if isinstance(m, nn.Conv2d) and "layer" in name}
    strided = [name for name, module in convolutions.items() if module.stride != (1, 1)]
    assert strided == ["layer2.0.conv2", "layer2.0.downsample.0"]
    assert body(torch.empty(1, 3, 512, 1024, device="meta")).shape == (1, 2048, 64, 128)
    assert body(torch.empty(1, 3, 513, 1025, device="meta")).shape == (1, 2048, 65, 129)
    for stage, first, rest in ((body.layer3, 1, 2), (body.layer4, 2, 4)):
        assert [block.conv2.dilation[0] for block in stage] == [first, *[rest] * (len(stage) - 1)]


def test_both_bodies_have_the_same_names_and_shapes() -> None:
    with torch.device("meta"):
        one, two = ({name: tensor.shape for name, tensor in ResNet(50, b).state_dict().items()} for b in BODIES)
    assert one == two
