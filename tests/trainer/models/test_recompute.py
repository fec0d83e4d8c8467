"""Recomputed activations change memory and time, and no bit of anything else."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.contracts import same_tensors
from trainer.models.deeplab_v2 import make_deeplab_v2
from trainer.models.recompute import blocks_of, recompute_activations
from trainer.models.timm_backbone import make_timm_network
from trainer.models.tiny import make_tiny_network

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "tiny": lambda policy: make_tiny_network(4, width=4, batch_norm=policy),
    "deeplab_v2": lambda policy: make_deeplab_v2(4, depth=50, batch_norm=policy),
    "timm": lambda policy: make_timm_network("tf_efficientnet_lite0", 4, batch_norm=policy),
}


@pytest.fixture(params=NETWORKS)
def make(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    return NETWORKS[request.param]


def two_steps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What two steps of plain gradient descent leave: weights and running statistics."""
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    for _ in range(2):
        gradients = torch.autograd.grad(network(images).square().mean(), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, list(gradients), alpha=-0.1)
    return network.state_dict()


@pytest.mark.parametrize("policy", ["batch_statistics", "frozen", "trained"])
def test_weights_and_running_statistics_are_the_same_bits(policy: str, make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    plain, images = make(policy), torch.rand(2, 3, 32, 64)
    saving = copy.deepcopy(plain)
    recompute_activations(saving)
    assert same_tensors(two_steps(plain, images), two_steps(saving, images))


def saved_bytes(network: nn.Module, images: Tensor) -> int:
    """What one forward pass keeps for the backward pass, weights aside."""
    weights = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network.train()(images)
    return sum(kept.values())


def test_a_forward_pass_keeps_less_than_half(make: Callable[..., nn.Module]) -> None:
    plain, images = make("batch_statistics"), torch.rand(2, 3, 64, 128)
    saving = copy.deepcopy(plain)
    recompute_activations(saving)
    assert saved_bytes(saving, images) < 0.5 * saved_bytes(plain, images)


def test_every_network_has_blocks_and_a_deeplab_has_its_sixteen(make: Callable[..., nn.Module]) -> None:
    assert len(list(blocks_of(make("trained")))) >= 3
    assert len(list(blocks_of(NETWORKS["deeplab_v2"]("trained")))) == 16


def test_the_state_dict_keeps_its_names(make: Callable[..., nn.Module]) -> None:
    plain = make("trained")
    names = list(plain.state_dict())
    recompute_activations(plain)
    assert list(plain.state_dict()) == names
