"""Networks whose branches are fused by methods of their own."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the `export` extra")
from torch import nn  # noqa: E402

from latbench.zoo.fusing import fuse_branches  # noqa: E402

pytestmark = pytest.mark.torch


class Block(nn.Module):
    """Two convolutions and a shortcut, which are one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.b: nn.Module | None = nn.Conv2d(8, 8, 1, groups=8)

    def forward(self, x: Any) -> Any:
        return self.a(x) if self.b is None else self.a(x) + self.b(x) + x

    def _merged(self) -> nn.Module:
        other: Any = self.b
        with torch.no_grad():
            self.a.weight += nn.functional.pad(other.weight, [1] * 4)
            self.a.weight[:, :, 1, 1] += 1
            self.a.bias += other.bias
        return self.a


class Returns(Block):
    """RepViT, LeViT: the method returns the replacement."""

    def fuse(self) -> nn.Module:
        return self._merged()


class InPlace(Block):
    """RepVGG: the method changes the part."""

    def switch_to_deploy(self) -> None:
        self._merged()
        self.b = None


class Helper(Block):
    """The method has a name of its own, and another one needs an argument."""

    def merge_branches(self, verbose: bool = False) -> None:
        self._merged()
        self.b = None

    def fuse(self, other: object) -> None:
        raise AssertionError


class Wrong(Block):
    """The method forgets the shortcut."""

    def fuse(self) -> nn.Module:
        return self.a


class Fails(Block):
    """The method needs something that is not there."""

    def reparameterize(self) -> None:
        raise AttributeError("no branch")


class Whole(nn.Module):
    """YOLO: the network fuses its parts, whose own method then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(InPlace(), InPlace())

    def forward(self, x: Any) -> Any:
        return self.parts(x)

    def fuse(self) -> nn.Module:
        for part in self.parts:
            part.switch_to_deploy()
        return self


def net(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), kind(), kind()).eval()


def convolutions(module: nn.Module) -> int:
    return sum(isinstance(part, nn.Conv2d) for part in module.modules())


IMAGE = (torch.rand(1, 3, 16, 16),)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Returns, "Returns.fuse"),
        (InPlace, "InPlace.switch_to_deploy"),
        (Helper, "Helper.merge_branches"),
        (Whole, "Whole.fuse"),
    ],
)
def test_known_methods_are_called(kind: type[nn.Module], method: str) -> None:
    original = net(kind)
    number, expected = convolutions(original), original(*IMAGE)
    fused = fuse_branches(original, IMAGE)
    assert fused.done == (method,)
    assert fused.refused == ()
    assert convolutions(fused.module) == 1 + (number - 1) // 2
    torch.testing.assert_close(fused.module(*IMAGE), expected)
    assert convolutions(original) == number


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Wrong, "Wrong.fuse changes the outputs"),
        (Fails, "Fails.reparameterize fails (AttributeError: no branch)"),
    ],
)
def test_methods_that_go_wrong_are_reported(kind: type[nn.Module], reason: str) -> None:
    original = net(kind)
    fused = fuse_branches(original, IMAGE)
    assert fused.refused == (reason,)
    assert convolutions(fused.module) == 5
    assert torch.equal(fused.module(*IMAGE), original(*IMAGE))


def test_a_network_that_is_one_part_is_replaced() -> None:
    fused = fuse_branches(Returns().eval(), (torch.rand(1, 8, 4, 4),))
    assert isinstance(fused.module, nn.Conv2d)
