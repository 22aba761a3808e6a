"""MobileViG against its description: counts, layers, graph, heads, sizes."""

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from latbench.zoo.catalog import ZOO, find  # noqa: E402
from latbench.zoo.macs import count  # noqa: E402
from latbench.zoo.nets import mobilevig as nets  # noqa: E402
from latbench.zoo.reparameterize import deploy_form  # noqa: E402
from latbench.zoo.weights import seed_statistics, seed_weights  # noqa: E402

pytestmark = pytest.mark.torch
VARIANTS = ("ti", "s", "m", "b")
AFTER_FUSION = {"ti": 4_724_012, "s": 6_712_216, "m": 13_239_016, "b": 25_978_368}
CONVOLUTIONS = {"ti": 48, "s": 68, "m": 68, "b": 108}
BATCH_NORM_PARAMETERS = {"ti": 34_062, "s": 51_322, "m": 67_770, "b": 121_138}


def seeded(variant: str, x: torch.Tensor | None = None) -> nets.MobileViG:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(nets, f"mobilevig_{variant}")()
    seed_weights(model, 0)
    seed_statistics(model.eval(), (image(1, 3, 64, 64) if x is None else x,), 0)
    return model


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_counts(variant: str) -> None:
    model, entry = seeded(variant), find(f"mobilevig_{variant}")
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert (
        sum(p.numel() for norm in norms for p in norm.parameters())
        == BATCH_NORM_PARAMETERS[variant]
    )
    counts = count(model, (torch.zeros(1, *entry.input_shape),))
    assert counts.macs == entry.macs
    assert counts.operators == {"conv": CONVOLUTIONS[variant], "linear": 0}


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_deploy_form_is_smaller_and_gives_the_same(variant: str, side: int) -> None:
    """At 8 x 8 too, where the last stages see a single pixel and any rounding error would show."""
    x = image(2, 3, side, side)
    model = seeded(variant, x)
    with torch.no_grad():
        before = model(x)
        fused = deploy_form(model, (x,))
        torch.testing.assert_close(fused(x), before, rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in fused.parameters()) == AFTER_FUSION[variant]
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fused.modules())


def test_layers_of_the_smallest() -> None:
    model = seeded("ti")
    convolutions = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d)]
    kinds = Counter((c.kernel_size, c.stride, c.groups > 1) for c in convolutions)
    assert kinds == {
        ((3, 3), (2, 2), False): 5,
        ((3, 3), (1, 1), True): 10,
        ((1, 1), (1, 1), False): 33,
    }
    assert all(c.bias is not None for c in convolutions)
    gelus = [part for part in model.modules() if isinstance(part, torch.nn.GELU)]
    called = Counter(gelu.approximate for gelu in gelus)
    assert called == {"none": len(gelus)}


def test_stages_are_of_the_sizes_described() -> None:
    model, x = seeded("ti"), image(1, 3, 224, 224)
    x = model.stem(x)
    assert tuple(x.shape) == (1, 42, 56, 56)
    sizes = [tuple(x.shape[1:])]
    for part in model.stages:
        x = part(x)
        if tuple(x.shape[1:]) != sizes[-1]:
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(42, 56, 56), (84, 28, 28), (168, 14, 14), (256, 7, 7)]


def naive_max_relative(x: torch.Tensor, hop: int) -> torch.Tensor:
    """Pixel by pixel, from the definition: neighbours hop, 2 hop, … rows above, columns left."""
    _, _, height, width = x.shape
    out = torch.zeros_like(x)
    for row in range(height):
        for column in range(width):
            here = x[:, :, row, column]
            neighbours = [x[:, :, (row - s) % height, column] for s in range(hop, height, hop)]
            neighbours += [x[:, :, row, (column - s) % width] for s in range(hop, width, hop)]
            for neighbour in neighbours:
                out[:, :, row, column] = torch.maximum(out[:, :, row, column], here - neighbour)
    return out


@pytest.mark.parametrize("size", [(7, 7), (5, 8), (2, 3), (1, 1)])
def test_graph_convolution_by_its_definition(size: tuple[int, int]) -> None:
    layer = nets.SVGA(4, hop=2).eval()
    layer.mix = torch.nn.Identity()
    x = image(2, 4, *size)
    joined = layer(x)
    torch.testing.assert_close(joined[:, :4], x)
    torch.testing.assert_close(joined[:, 4:], naive_max_relative(x, 2))


@pytest.mark.parametrize("shift", [1, 2, 6])
@pytest.mark.parametrize("axis", [2, 3])
def test_rolling_is_rolling(shift: int, axis: int) -> None:
    x = image(1, 2, 7, 7)
    assert torch.equal(nets.rolled(x, shift, axis), torch.roll(x, shift, axis))


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (97, 128)])
def test_any_resolution_and_batch(size: tuple[int, int]) -> None:
    model = seeded("ti")
    with torch.no_grad():
        together = model(image(3, 3, *size))
        alone = model(image(3, 3, *size)[1:2])
    assert together.shape == (3, 1000)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_two_heads_are_averaged_and_both_are_trained() -> None:
    model, x = seeded("ti"), image(2, 3, 64, 64)
    with torch.no_grad():
        averaged = model(x)
        features = model.embed(model.stages(model.stem(x)).mean((2, 3), keepdim=True))
        assert model.distillation_head is not None
        heads = [head(features).flatten(1) for head in (model.head, model.distillation_head)]
        torch.testing.assert_close(averaged, (heads[0] + heads[1]) / 2)
        assert not torch.allclose(*heads)
        trained = model.train()(x)
    assert isinstance(trained, tuple)
    assert [tuple(logits.shape) for logits in trained] == [(2, 1000), (2, 1000)]


def test_stochastic_depth_grows_and_drops_only_in_training() -> None:
    model = seeded("b")
    rates = [part.probability for part in model.modules() if isinstance(part, nets.DropPath)]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0, pytest.approx(0.1))
    drop, x = nets.DropPath(0.5), torch.ones(1000, 1, 1, 1)
    dropped = drop.train()(x)
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert 350 < int((dropped > 0).sum()) < 650
    assert drop.eval()(x) is x


def test_the_catalogue_names_each_variant_once() -> None:
    names = [entry.name for entry in ZOO if entry.name.startswith("mobilevig_")]
    assert names == [f"mobilevig_{variant}" for variant in VARIANTS]
