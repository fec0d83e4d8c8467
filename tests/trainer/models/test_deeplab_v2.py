import pytest
import torch
import torch.nn.functional as F

from trainer.models.deeplab_v2 import DilatedHead, make_deeplab_v2
from trainer.models.segmentation import COCO


@pytest.mark.parametrize("branches", [2, 4])
def test_the_head_sums_its_first_branches(branches: int) -> None:
    head = DilatedHead(8, 3, branches=branches).double()
    features = torch.rand(2, 8, 9, 11, dtype=torch.float64)
    expected = torch.zeros(2, 3, 9, 11, dtype=torch.float64)
    for convolution, rate in zip(head.conv2d_list[:branches], (6, 12, 18, 24), strict=False):
        expected += F.conv2d(features, convolution.weight, convolution.bias, padding=rate, dilation=rate)
    torch.testing.assert_close(head(features), expected)


@pytest.mark.parametrize("branches", [2, 4])
def test_branches_that_are_not_summed_are_saved_but_not_trained(branches: int) -> None:
    head = DilatedHead(8, 3, branches=branches)
    assert [convolution.weight.requires_grad for convolution in head.conv2d_list] == [
        index < branches for index in range(4)
    ]
    assert [convolution.bias.requires_grad for convolution in head.conv2d_list] == [
        index < branches for index in range(4)
    ]
    assert len(head.state_dict()) == 8


def test_a_head_starts_normal_with_torch_biases() -> None:
    head = DilatedHead(256, 19)
    assert head.conv2d_list[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.conv2d_list[0].bias.abs().max() > 0


def test_the_head_refuses_three_branches() -> None:
    with pytest.raises(ValueError, match="2 or 4"):
        DilatedHead(8, 3, branches=3)


def test_the_network_has_the_528_tensors_of_the_coco_file(layouts: dict) -> None:
    with torch.device("meta"):
        state = make_deeplab_v2(19).state_dict()
    ours = {name: tuple(tensor.shape) for name, tensor in state.items() if "num_batches_tracked" not in name}
    renamed = {name.removeprefix("backbone.").replace("head.", "layer5."): shape for name, shape in ours.items()}
    assert len(layouts["coco"]) == 528
    assert renamed.keys() == layouts["coco"].keys()
    assert sum(renamed[name] == shape for name, shape in layouts["coco"].items()) == 520


@pytest.mark.parametrize("batch_norm", ["batch_statistics", "frozen", "trained"])
def test_every_trained_parameter_gets_a_gradient_and_no_other(batch_norm: str) -> None:
    network = make_deeplab_v2(4, depth=50, batch_norm=batch_norm, normalization=COCO)
    network(torch.rand(2, 3, 17, 17)).sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = network.backbone_parameters() + network.head_parameters()
    assert len(trained) == 53 + 4 + (106 if batch_norm == "trained" else 0)
