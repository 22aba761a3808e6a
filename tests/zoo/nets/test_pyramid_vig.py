"""Pyramid ViG by its description: which pixels are neighbours, and what is taken from them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from torch.nn import functional  # noqa: E402

from latbench.zoo.nets.pyramid_vig import Graph, PyramidViG, apart  # noqa: E402
from latbench.zoo.reparameterize import deploy_form  # noqa: E402

pytestmark = pytest.mark.torch


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_places_are_apart_as_their_codes_are() -> None:
    """Sine and cosine codes of row and column, multiplied out."""
    width, side = 16, 5
    waves = 10000 ** -(torch.arange(4) / 4)
    line = torch.arange(side)[:, None] * waves
    code = torch.cat((line.sin(), line.cos()), dim=1)
    rows = code.repeat_interleave(side, dim=0)
    columns = code.repeat(side, 1)
    places = torch.cat((rows, columns), dim=1)
    torch.testing.assert_close(apart(width, side, 1)[0], -2 * places @ places.T / width)


@pytest.mark.parametrize(("pooling", "dilation"), [(1, 1), (1, 2), (2, 1)])
def test_largest_difference_to_the_nearest(pooling: int, dilation: int) -> None:
    part = Graph(8, side=6, pooling=pooling, neighbours=3, dilation=dilation).eval()
    x = image(2, 8, 6, 6)
    pixels = x.flatten(2).transpose(1, 2)
    candidates = functional.avg_pool2d(x, pooling).flatten(2).transpose(1, 2)
    joined = torch.zeros(2, 16, 36)
    for n in range(2):
        for i in range(36):
            one, others = pixels[n, i], candidates[n]
            difference = one / one.norm() - others / others.norm(dim=1, keepdim=True)
            distance = difference.square().sum(1) + part.apart[0, i]
            chosen = distance.argsort()[: 3 * dilation : dilation]
            joined[n, 0::2, i] = one
            joined[n, 1::2, i] = (others[chosen] - one).amax(0)
    torch.testing.assert_close(part(x), part.mix(joined.unflatten(2, (6, 6))))


def tiny() -> PyramidViG:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PyramidViG(depths=(1, 1, 2, 1), widths=(16, 16, 32, 32), side=160)


def test_neighbours_grow_with_depth() -> None:
    graphs = [part for part in tiny().modules() if isinstance(part, Graph)]
    assert [graph.neighbours for graph in graphs] == [9, 11, 13, 15, 18]
    assert [graph.pooling for graph in graphs] == [4, 2, 1, 1, 1]


def test_deployed_gives_the_same() -> None:
    net = tiny().eval().requires_grad_(False)
    x = image(1, 3, 160, 160)
    fused = deploy_form(net, (x,))
    torch.testing.assert_close(fused(x), net(x), rtol=1e-4, atol=1e-4)


def test_all_parameters_are_trained() -> None:
    net = tiny().train()
    net(image(2, 3, 160, 160)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
