"""OverLoCK and its parts, by their descriptions; its function as a whole is in test_authors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from latbench.zoo.nets.large_kernel import BESIDE, LargeKernel  # noqa: E402
from latbench.zoo.nets.neighbours import Neighbours  # noqa: E402
from latbench.zoo.nets.overlock import KERNELS, OverLoCK  # noqa: E402
from latbench.zoo.reparameterize import deploy_form  # noqa: E402
from latbench.zoo.weights import seed_statistics, seed_weights  # noqa: E402

pytestmark = pytest.mark.torch


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def tiny() -> OverLoCK:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OverLoCK(widths=(16, 16, 32, 32), depths=(1, 1, 1, 1), closer=(2, 1), heads=(2, 2))


def test_windows_stay_inside_of_the_image() -> None:
    part = Neighbours(1, 5, 3).requires_grad_(False)
    maps = image(1, 1, 5, 5)
    # With equal scores: the mean of the window around the nearest pixel that has a whole one.
    inner = functional.avg_pool2d(maps, 3, 1)
    expected = functional.pad(inner, (1, 1, 1, 1), mode="replicate").reshape(1, 1, 25, 1)
    out = part(torch.zeros(1, 1, 25, 9), maps.reshape(1, 1, 25, 1))
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(("row", "column"), [(2, 2), (0, 0), (4, 1)])
def test_biases_are_by_relative_place(row: int, column: int) -> None:
    """A bias for the pixel to the upper right, if it is in the window, decides alone."""
    part = Neighbours(2, 5, 3).requires_grad_(False)
    part.bias[1, 1, 3] = 100  # one row up, one column right; (2, 2) is the pixel itself
    values = image(1, 2, 25, 4)
    pixel = 5 * row + column
    out = part(torch.zeros(1, 2, 25, 9), values)[0, :, pixel]
    if row:
        torch.testing.assert_close(out[1], values[0, 1, pixel - 4])
    assert not torch.allclose(out[0], values[0, 0, pixel])


def test_rows_of_kernels_come_first() -> None:
    part = Neighbours(1, 5, 3).requires_grad_(False)
    scores = torch.full((1, 1, 25, 9), -100.0)
    scores[..., 1] = 100  # above, in the middle
    values = image(1, 1, 25, 2)
    torch.testing.assert_close(part(scores, values)[0, 0, 12], values[0, 0, 7])


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_kernels_take_in_those_beside_them(kernel: int) -> None:
    x = image(2, 4, 20, 20)
    part = LargeKernel(4, kernel)
    seed_weights(part, 0)
    part.eval().requires_grad_(False)
    seed_statistics(part, (x,), 0)
    assert len(part.branches) == 1 + len(BESIDE[kernel])
    assert all(dilation * (size - 1) < kernel for size, dilation in BESIDE[kernel])
    before = part(x)
    for _ in range(2):
        part.switch_to_deploy()
        assert [type(branch) for branch in part.branches] == [nn.Conv2d]
        torch.testing.assert_close(part(x), before)


def test_deployed_it_has_one_head_and_no_branches() -> None:
    x = image(1, 3, 224, 224)
    net = tiny()
    seed_weights(net, 0)
    net.eval().requires_grad_(False)
    seed_statistics(net, (x,), 0)
    before = net(x)
    deployed = deploy_form(net, (x,))
    assert deployed.overview_head is None
    large = [part for part in deployed.modules() if isinstance(part, LargeKernel)]
    assert {len(part.branches) for part in large} == {1}
    torch.testing.assert_close(deployed(x), before, rtol=1e-4, atol=1e-4)


def test_all_parameters_are_trained() -> None:
    net = tiny().train()
    outputs = net(image(2, 3, 224, 224))
    assert [tuple(one.shape) for one in outputs] == [(2, 1000)] * 2
    sum(one.square().sum() for one in outputs).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    first = net.eval()(image(1, 3, 224, 224))
    assert tuple(first.shape) == (1, 1000)
