import pytest
import torch
import torch.nn.functional as F

from trainer.models.tiny import TinyBackbone, make_tiny_network


@pytest.mark.parametrize("output_stride", [4, 8])
def test_features_have_the_asked_output_stride(output_stride: int) -> None:
    features = TinyBackbone(8, output_stride=output_stride)(torch.rand(1, 3, 64, 128))
    assert features.shape == (1, 32, 64 // output_stride, 128 // output_stride)


def test_another_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="4 or 8, not 16"):
        TinyBackbone(8, output_stride=16)


@pytest.mark.parametrize("head_branches", [2, 4])
def test_every_trained_parameter_gets_a_gradient(head_branches: int) -> None:
    network = make_tiny_network(12, width=4, head_branches=head_branches)
    network(torch.rand(2, 3, 16, 32)).sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in network.parameters())
    assert len(network.head_parameters()) == 2 * head_branches


def test_it_learns_which_colour_is_which_class_in_sixty_steps() -> None:
    network = make_tiny_network(4, width=8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    label = torch.randint(0, 4, (4, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = torch.rand(4, 3)[label].permute(0, 3, 1, 2) + 0.05 * torch.randn(4, 3, 32, 64)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(image), label).backward()
        optimizer.step()
    assert (network.eval()(image).argmax(1) == label).float().mean() > 0.8


def test_equal_seeds_give_equal_networks() -> None:
    first, second = (make_tiny_network(3, width=4) for _ in range(2) if torch.manual_seed(3))
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(first(image), second(image))
