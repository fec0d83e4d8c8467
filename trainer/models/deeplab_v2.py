"""DeepLab-V2 as the published semi-supervised codes run it: its head, and the head on the dilated ResNet."""

from collections.abc import Sequence
from functools import reduce
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.models.batch_norm import BatchNormPolicy, set_batch_norm_policy
from trainer.models.resnet import CAFFE, Body, Depth, ResNet, initialize_convolutions
from trainer.models.segmentation import IMAGENET, Normalization, SegmentationNetwork

Branches = Literal[2, 4]
DILATIONS = (6, 12, 18, 24)  # DeepLab-V2, section 3.2 and figure 4, at output stride 8


class DilatedHead(nn.Module):
    """Four parallel dilated 3x3 convolutions, of which the first `branches` are summed.

    All four are in the state dict. Those that are not summed have requires_grad off, since they never get a gradient
    and DDP waits for one from every trained parameter.

    Source: Chen et al. 2018 (DeepLab-V2), arXiv:1606.00915, section 3.2. Differs: with 2 branches it is what
    AdvSemiSeg's model file and its five descendants really compute, whose return stands inside the summation loop;
    every published number of Table 1 carries it. 4 branches is what was meant.

    Raises: ValueError unless branches is 2 or 4 and there are four dilations.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, branches: Branches = 2, dilations: Sequence[int] = DILATIONS
    ) -> None:
        super().__init__()
        if branches not in (2, 4) or len(dilations) != len(DILATIONS):
            raise ValueError(f"a head sums 2 or 4 of four dilations, not {branches} of {tuple(dilations)}")
        self.branches = branches
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        initialize_convolutions(self)
        for unsummed in islice(self.conv2d_list, branches, None):
            unsummed.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] to logits [N, num_classes, h, w]."""
        summed: list[Tensor] = [branch(features) for branch in islice(self.conv2d_list, self.branches)]
        return reduce(torch.add, summed)


def make_deeplab_v2(
    num_classes: int,
    *,
    depth: Depth = 101,
    body: Body = CAFFE,
    head_branches: Branches = 2,
    batch_norm: BatchNormPolicy = "batch_statistics",
    normalization: Normalization = IMAGENET,
) -> SegmentationNetwork:
    """DeepLab-V2 on a ResNet, with random weights; the defaults are the published codes' configuration.

    Raises: ValueError for an unknown depth, number of branches or batch-norm policy.
    """
    head = DilatedHead(ResNet.out_channels, num_classes, branches=head_branches)
    network = SegmentationNetwork(ResNet(depth, body), head, normalization=normalization)
    set_batch_norm_policy(network, batch_norm)
    return network
