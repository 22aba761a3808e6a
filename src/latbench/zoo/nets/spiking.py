"""A spiking VGG16: neurons that integrate their input over time steps and fire zeros and ones.

Sources: S. S. Chowdhury, N. Rathi, K. Roy, *Towards Ultra Low Latency Spiking Neural Networks for
Vision and Sequential Tasks Using Temporal Pruning*, ECCV 2022 (as *One Timestep is All You Need*,
arXiv 2110.05929), for the neurons and their steps; K. Simonyan, A. Zisserman, *Very Deep
Convolutional Networks*, ICLR 2015, for the layers. As in the authors' network for ImageNet: no
biases, average pooling, a threshold for each layer, reset by subtraction. Their neurons may leak,
too, by 15 more parameters that one step does not use; these do not (a leak of one). The image
itself is the input of every step, so the first convolution is computed once. Only inference:
training needs a stand-in for the gradient of a step, and the authors' dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latbench.zoo.nets.mobilevig import CLASSES

GAIN = 7.0
"""Times PyTorch's own initial weights: in each layer of an untrained network about a third of the
neurons fire, whatever their thresholds. With 5, spikes can die out on the way: the output is zero.
"""
GRID = 2.0**-12
FIRST = 2.0
"""Weight in the first layer: a power of two, so that its product with a pixel is exact."""

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = (4096, 4096)


class SpikingVGG(nn.Module):
    """(N, 3, side, side) -> (N, classes): the last layer's potential, summed over ``steps``.

    ``stages`` are widths of 3x3 convolutions, with 2x2 average pooling after each stage; ``hidden``
    those of linear layers. All of them fire, except the last layer, which only adds up.
    """

    def __init__(
        self,
        *,
        steps: int,
        stages: Sequence[Sequence[int]] = VGG16,
        hidden: Sequence[int] = HIDDEN,
        classes: int = CLASSES,
        side: int = 224,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.input_shape = (3, side, side)
        layers: list[nn.Conv2d | nn.Linear] = []
        self.pooled: list[bool] = []
        width = 3
        for stage in stages:
            for i, following in enumerate(stage):
                layers.append(nn.Conv2d(width, following, 3, padding=1, bias=False))
                self.pooled.append(i == len(stage) - 1)
                width = following
        width *= (side // 2 ** len(stages)) ** 2
        for following in (*hidden, classes):
            layers.append(nn.Linear(width, following, bias=False))
            self.pooled.append(False)
            width = following
        self.layers = nn.ModuleList(layers)
        self._draw()
        firing = range(len(layers) - 1)
        self.thresholds = nn.ParameterList([nn.Parameter(torch.tensor(1.0)) for _ in firing])
        self.pool = nn.AvgPool2d(2)

    def _draw(self) -> None:
        """Initial weights with which every sum is exact, in any order.

        One spike more or less changes much of what follows, and whether a neuron near its threshold
        fires would depend on the order in which a runtime adds: with weights as they come, files
        differ from the network by 0.2. So weights are multiples of 2^-12, which spikes only add
        up, and each filter of the first layer, which takes no spikes, has one weight that is not
        zero.
        """
        with torch.no_grad():
            for parameter in self.layers.parameters():
                parameter.mul_(GAIN / GRID).round_().mul_(GRID)
            first = self.layers[0]
            assert isinstance(first, nn.Conv2d)
            filters = first.weight.zero_().flatten(1)
            places = torch.randint(filters.shape[1], (len(filters), 1))
            filters.scatter_(1, places, FIRST * (2.0 * torch.randint(2, places.shape) - 1))

    def forward(self, x: Tensor) -> Tensor:
        steady = self.layers[0](x)
        potentials: list[Tensor | None] = [None] * len(self.thresholds)
        total: Tensor | None = None
        for _ in range(self.steps):
            spikes = steady
            for i, layer in enumerate(self.layers[:-1]):
                current = spikes if i == 0 else layer(spikes)
                spikes, potentials[i] = fire(current, potentials[i], self.thresholds[i])
                if self.pooled[i]:
                    spikes = self.pool(spikes)
                if isinstance(self.layers[i + 1], nn.Linear):
                    spikes = spikes.flatten(1)
            given = self.layers[-1](spikes)
            total = given if total is None else total + given
        assert total is not None
        return total


def fire(current: Tensor, potential: Tensor | None, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a layer of neurons: which fire (ones, else zeros), and what is left in each.

    All of one shape. The current is added to what was left, and a neuron above the threshold fires
    and loses that much. ``potential`` is ``None`` before the first step.
    """
    if potential is not None:
        current = current + potential
    # Not `current > threshold`, which rounds otherwise than the authors' definition: a spike more
    # or less is a difference that later layers see.
    spikes = (current / threshold - 1 > 0).to(current.dtype)
    return spikes, current - threshold * spikes


def _vgg16(steps: int) -> SpikingVGG:
    return SpikingVGG(steps=steps)


def spiking_vgg16_t1() -> SpikingVGG:
    """138 M parameters, one time step."""
    return _vgg16(1)


def spiking_vgg16_t2() -> SpikingVGG:
    """Two time steps."""
    return _vgg16(2)


def spiking_vgg16_t3() -> SpikingVGG:
    """Three time steps."""
    return _vgg16(3)


def spiking_vgg16_t4() -> SpikingVGG:
    """Four time steps."""
    return _vgg16(4)


def spiking_vgg16_t5() -> SpikingVGG:
    """Five time steps."""
    return _vgg16(5)
