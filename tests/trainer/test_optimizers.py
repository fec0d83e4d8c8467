"""The repeated backbone update against explicit steps, and how often the published generator lists a parameter."""

import pytest
import torch
from torch import nn

from tests import oracles
from trainer.models.deeplab_v2 import make_deeplab_v2
from trainer.optimizers import by_listings, follow_layout, step_repeatedly, with_repeats


def published_listing(backbone: nn.Module) -> dict[int, int]:
    """How often AdvSemiSeg's generator yields each parameter, by id: its loops, written out (docs/methods.md 2.5)."""
    parts = [backbone.conv1, backbone.bn1, backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    counts: dict[int, int] = {}
    for part in parts:
        for module in part.modules():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return counts


def test_parameters_repeat_as_often_as_the_published_generator_lists_them() -> None:
    backbone = make_deeplab_v2(5, depth=101).backbone
    ours = {id(p): repeats for repeats, parameters in by_listings(backbone) for p in parameters}
    assert ours == published_listing(backbone)


def test_resnet_101_has_one_stem_99_convolutions_three_times_and_four_shortcuts() -> None:
    counts = {repeats: len(found) for repeats, found in by_listings(make_deeplab_v2(5, depth=101).backbone)}
    assert counts == {1: 1, 3: 99, 4: 4}


@pytest.mark.parametrize("repeats", [1, 3, 4])
def test_a_repeated_update_is_so_many_sgd_steps_with_one_gradient(repeats: int) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    groups = with_repeats([(repeats, [weight])], 0.1)
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    value, momentum = [1.0, -2.0], [0.0, 0.0]
    for gradient in ([0.5, 1.5], [-1.0, 0.25], [2.0, 0.0]):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        step_repeatedly(optimizer)
        value, momentum = oracles.repeated_sgd(value, momentum, gradient, rate=0.1, decay=0.01, repeats=repeats)
        assert weight.tolist() == pytest.approx(value, rel=1e-12)


def test_the_first_step_of_three_repeats_is_5_61_times_a_plain_one() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD(with_repeats([(3, [weight])], 1.0), lr=1.0, momentum=0.9)
    weight.grad = torch.ones(1, dtype=torch.float64)
    step_repeatedly(optimizer)
    assert -weight.item() == pytest.approx(1 + 1.9 + 2.71)


def test_groups_with_fewer_repeats_rest_while_others_go_on() -> None:
    once, thrice = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD(with_repeats([(1, [once]), (3, [thrice])], 1.0), lr=1.0)
    once.grad, thrice.grad = torch.ones(1), torch.ones(1)
    step_repeatedly(optimizer)
    assert (once.item(), thrice.item()) == (-1.0, -3.0)
    assert len(optimizer.param_groups) == 2


def test_adam_counts_each_repeat_as_a_step_of_its_own() -> None:
    weight, plain = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    repeated = torch.optim.Adam(with_repeats([(3, [weight])], 0.1), lr=0.1)
    single = torch.optim.Adam([plain], lr=0.1)
    weight.grad = plain.grad = torch.tensor([0.3, -2.0])
    step_repeatedly(repeated)
    for _ in range(3):
        single.step()
    assert torch.equal(weight, plain)
    assert repeated.state[weight]["step"] == 3


def test_an_error_in_a_repeat_leaves_all_groups() -> None:
    optimizer = torch.optim.SGD(
        with_repeats([(2, [nn.Parameter(torch.zeros(1))]), (1, [nn.Parameter(torch.zeros(1))])], 1.0)
    )
    optimizer.step = lambda: (_ for _ in ()).throw(RuntimeError("no"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no"):
        step_repeatedly(optimizer)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("before", "now"), [("contiguous_format", "channels_last"), ("channels_last", "contiguous_format")]
)
def test_momentum_of_another_layout_is_paired_with_its_weights(before: str, now: str) -> None:
    value, gradient = torch.arange(72.0).view(2, 4, 3, 3), torch.arange(72.0).flip(0).view(2, 4, 3, 3)

    def stepped(layout: str, state: dict[str, object] | None) -> tuple[torch.optim.Optimizer, nn.Parameter]:
        weight = nn.Parameter(value.clone(memory_format=getattr(torch, layout)))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
        if state is not None:
            optimizer.load_state_dict(state)
            follow_layout(optimizer)
        weight.grad = gradient.clone(memory_format=getattr(torch, layout))
        optimizer.step()
        return optimizer, weight

    state = stepped(before, None)[0].state_dict()
    assert torch.equal(stepped(now, state)[1], stepped(before, state)[1])
