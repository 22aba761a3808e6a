"""A depthwise convolution with a large kernel, trained with smaller and dilated ones beside it.

Source: X. Ding, Y. Zhang, Y. Ge, S. Zhao, L. Song, X. Yue, Y. Shan, *UniRepLKNet: A Universal
Perception Large-Kernel ConvNet for Audio, Video, Point Cloud, Time-Series and Image Recognition*,
CVPR 2024, arXiv 2311.15599; the sizes beside it are those of OverLoCK's release.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

BESIDE = {
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
}
"""(width, dilation) of the smaller kernels that are trained beside a large one."""


class LargeKernel(nn.Module):
    """A depthwise convolution, trained with smaller ones beside it. (N, c, H, W) -> the same."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.kernel = kernel
        self.branches = nn.ModuleList()
        for size, dilation in ((kernel, 1), *BESIDE[kernel]):
            padding = dilation * (size // 2)
            conv = nn.Conv2d(width, width, size, 1, padding, dilation, width, bias=False)
            self.branches.append(nn.Sequential(conv, nn.BatchNorm2d(width)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            out = out + branch(x)
        return out

    def switch_to_deploy(self) -> None:
        """One convolution with the taps of all, each where it falls in the large kernel."""
        if len(self.branches) == 1:
            return
        width, middle = self.width, self.kernel // 2
        like = next(self.parameters())
        fused = nn.Conv2d(width, width, self.kernel, padding=middle, groups=width).to(like)
        weight = torch.zeros(fused.weight.shape, dtype=torch.float64)
        bias = torch.zeros(width, dtype=torch.float64)
        with torch.no_grad():
            for branch in self.branches.double().eval():
                conv, norm = branch.children()
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                part = fuse_conv_bn_eval(conv, norm)
                first = middle - part.dilation[0] * (part.kernel_size[0] // 2)
                taps = slice(first, self.kernel - first, part.dilation[0])
                weight[:, :, taps, taps] += part.weight
                assert part.bias is not None
                bias += part.bias
            fused.weight.copy_(weight)
            assert fused.bias is not None
            fused.bias.copy_(bias)
        self.branches = nn.ModuleList([fused])
