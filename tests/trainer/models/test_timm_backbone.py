import sys

import pytest
import torch
from torch import nn

from trainer.models.batch_norm import GlobalBatchNorm2d
from trainer.models.timm_backbone import TimmBackbone, globalize_batch_norm, make_timm_network, timm_normalization

pytest.importorskip("timm")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_have_the_asked_output_stride(output_stride: int) -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", output_stride=output_stride)
    features = backbone(torch.rand(2, 3, 64, 96))
    assert features.shape == (2, backbone.out_channels, 64 // output_stride, 96 // output_stride)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_global_batch_norm_changes_neither_names_nor_values(name: str) -> None:
    import timm

    plain = timm.create_model(name, pretrained=False, features_only=True)
    image, names = torch.rand(2, 3, 32, 32), list(plain.state_dict())
    expected = plain(image)[-1]
    globalize_batch_norm(plain)
    assert list(plain.state_dict()) == names
    assert all(
        isinstance(module, GlobalBatchNorm2d) for module in plain.modules() if isinstance(module, nn.BatchNorm2d)
    )
    torch.testing.assert_close(plain(image)[-1], expected)


def test_every_trained_parameter_gets_a_gradient() -> None:
    network = make_timm_network("tf_efficientnet_lite0", 11)
    logits = network(torch.rand(2, 3, 32, 48))
    logits.sum().backward()
    assert logits.shape == (2, 11, 32, 48)
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in network.parameters())


def test_dilations_shrink_with_coarser_features() -> None:
    head = make_timm_network("tf_efficientnet_lite0", 11, output_stride=16).head
    assert [convolution.dilation[0] for convolution in head.conv2d_list] == [3, 6, 9, 12]


def test_normalization_is_what_timm_records() -> None:
    assert timm_normalization("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    assert timm_normalization("resnet18").std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", ["no_such_model", "vit_tiny_patch16_224"])
def test_a_model_that_timm_cannot_make_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"timm cannot make '{name}' at output stride 16"):
        TimmBackbone(name)


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'mixgrid\[timm\]'"):
        TimmBackbone("resnet18")
