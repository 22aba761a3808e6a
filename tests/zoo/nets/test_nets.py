"""The networks of the zoo: counts of all; graph, convolutional and spiking ones by their descriptions."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from latbench.zoo import timm  # noqa: E402
from latbench.zoo.catalog import ZOO, ZooModel  # noqa: E402
from latbench.zoo.macs import count  # noqa: E402
from latbench.zoo.nets import (  # noqa: E402
    efficientmod,
    fbnet,
    greedyvig,
    mobilevigv2,
    nasnet,
    proxylessnas,
    spiking,
)
from latbench.zoo.nets.mbconv import MBConv, Style  # noqa: E402
from latbench.zoo.reparameterize import deploy_form  # noqa: E402
from latbench.zoo.weights import seed_statistics, seed_weights  # noqa: E402

pytestmark = pytest.mark.torch
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs the `timm` extra")


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(build: Callable[[], nn.Module], *inputs: torch.Tensor) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build()
    seed_weights(module, 0)
    module.eval().requires_grad_(False)
    if inputs:
        seed_statistics(module, inputs, 0)
    return module


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_declared_counts(entry: ZooModel) -> None:
    """Without memory for weights or time for arithmetic."""
    module, _, factory = entry.factory.partition(":")
    with torch.device("meta"):
        net = getattr(importlib.import_module(module), factory)().eval()
        image = torch.zeros(1, *entry.input_shape)
        counts = count(net, (image,))
        assert tuple(net(image).shape) == (1, 1000)
    assert sum(p.numel() for p in net.parameters()) == entry.parameters
    assert counts.macs == entry.macs
    assert net.input_shape == entry.input_shape


def test_names_are_those_of_the_factories() -> None:
    assert all(entry.factory.endswith(f":{entry.name}") for entry in ZOO)
    assert len({entry.name for entry in ZOO}) == len(ZOO)


def tiny_graph(relative: mobilevigv2.Relative = mobilevigv2.axial) -> mobilevigv2.GraphNet:
    return mobilevigv2.GraphNet(
        blocks=((1, 0), (1, 1), (0, 1)),
        widths=(8, 12, 16),
        hops=(1, 3, 2),
        embedding=24,
        relative=relative,
    )


def tiny_efficientmod() -> efficientmod.EfficientMod:
    return efficientmod.EfficientMod(
        widths=(8, 8, 16, 16), depths=(2, 2, 2, 2), expansion=3, attentions=(0, 0, 1, 1)
    )


def test_four_neighbours_minus_self() -> None:
    x = image(2, 3, 8, 9)
    differences = [torch.roll(x, shift, axis) - x for axis in (2, 3) for shift in (-3, 3)] + [
        torch.zeros_like(x)
    ]
    assert torch.equal(mobilevigv2.axial(x, 3), torch.stack(differences).amax(0))


@pytest.mark.parametrize(("shape", "hop"), [((2, 3, 8, 8), 2), ((2, 4, 7, 7), 1)])
def test_neighbours_nearer_than_the_limit(shape: tuple[int, ...], hop: int) -> None:
    """One image at a time, in words: quadrants swapped, mean minus deviation, masked differences."""
    x = image(*shape)
    expected, chosen = [], 0
    for one in x:
        half = [-(-side // 2) for side in one.shape[1:]]
        apart = (one - torch.roll(one, half, (1, 2))).abs().sum(0)
        limit = apart.mean() - apart.std()
        largest = torch.zeros_like(one)
        for axis in (1, 2):
            for shift in range(hop, one.shape[axis], hop):
                difference = torch.roll(one, shift, axis) - one
                near = difference.abs().sum(0) < limit
                chosen += int(near.sum())
                largest = torch.where(near, torch.maximum(largest, difference), largest)
        expected.append(largest)
    assert chosen > 10
    torch.testing.assert_close(greedyvig.dynamic(x, hop), torch.stack(expected))


@pytest.mark.parametrize("relative", [mobilevigv2.axial, greedyvig.dynamic])
def test_graph_networks_deployed_give_the_same(relative: mobilevigv2.Relative) -> None:
    x = image(2, 3, 64, 64)
    net = seeded(lambda: tiny_graph(relative), x)
    before = net(x)
    convolutions = count(net, (x,)).operators["conv"]
    net.switch_to_deploy()
    assert net.distillation_head is None
    torch.testing.assert_close(net(x), before)
    fused = deploy_form(net, (x,))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    torch.testing.assert_close(fused(x), before, rtol=1e-4, atol=1e-4)
    assert count(fused, (x,)).operators["conv"] == convolutions - 1
    fused = deploy_form(fused, (x,))
    torch.testing.assert_close(fused(x), before, rtol=1e-4, atol=1e-4)


def test_position_is_one_convolution_once_deployed() -> None:
    x = image(1, 5, 9, 9)
    part = mobilevigv2.PositionalEncoding(5)
    before = part(x)
    part.switch_to_deploy()
    part.switch_to_deploy()
    torch.testing.assert_close(part(x), before)
    torch.testing.assert_close(part.conv(x), before)


def test_two_heads_in_training_and_their_mean_after() -> None:
    net = tiny_graph()
    both = net.train()(image(2, 3, 32, 32))
    assert [tuple(logits.shape) for logits in both] == [(2, 1000), (2, 1000)]
    x = image(2, 3, 32, 32)
    mean = net.eval()(x)
    net.distillation_head = None
    assert not torch.allclose(net(x), mean)


def test_context_is_repeated_over_the_values() -> None:
    part = efficientmod.Modulation(4, 3)
    x = image(2, 5, 6, 4)
    near = functional.gelu(part.conv(part.squeeze(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    context, value = part.unsqueeze(near), functional.gelu(part.value(x))
    product = torch.stack([value[..., j] * context[..., j % 4] for j in range(12)], dim=-1)
    torch.testing.assert_close(part(x), part.project(product))


def test_values_without_expansion_have_no_activation() -> None:
    part = efficientmod.Modulation(4, 1)
    with torch.no_grad():
        part.unsqueeze.weight.zero_()
        part.unsqueeze.bias.fill_(1.0)
    x = image(1, 3, 3, 4)
    torch.testing.assert_close(part(x), part.project(part.value(x)))


def test_efficientmod_attention() -> None:
    part = efficientmod.Attention(64)
    x = image(2, 9, 64)
    query, key, value = part.qkv(x).unflatten(2, (3, 8, 32)).unbind(2)
    scores = torch.einsum("nihd,njhd->nhij", query, key) / 32**0.5
    mixed = torch.einsum("nhij,njhd->nihd", scores.softmax(-1), value)
    torch.testing.assert_close(part(x), part.project(mixed.flatten(2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "stride", "added"), [(4, 1, True), (4, 2, False), (6, 1, False)]
)
def test_mbconv_adds_its_input_where_shapes_agree(outputs: int, stride: int, added: bool) -> None:
    style = Style(activation=nn.ReLU6)
    part = MBConv(4, outputs, kernel=5, expansion=3, style=style, stride=stride).eval()
    nn.init.zeros_(part.project[1].weight)
    x = image(1, 4, 8, 8)
    y = part(x)
    assert tuple(y.shape) == (1, outputs, 8 // stride, 8 // stride)
    assert torch.equal(y, x) if added else not y.any()


def test_grouped_mbconv_shuffles_and_does_not_expand() -> None:
    part = MBConv(6, 6, kernel=3, expansion=1, style=fbnet.STYLE, groups=2).eval()
    x = image(1, 6, 4, 4)
    shuffled = x[:, [0, 3, 1, 4, 2, 5]]
    torch.testing.assert_close(part(x), x + part.project(part.depthwise(shuffled)))
    assert part.project[0].groups == 2
    assert len(list(part.expand.parameters())) == 0


def test_published_counts_of_fbnet() -> None:
    """They have one more for each element of the last pooling (49 pixels at 224 x 224)."""
    published = {"fbnet_a": 244.5, "fbnet_b": 291.1, "fbnet_c": 378.2}
    features = {"fbnet_a": 1504, "fbnet_b": 1984, "fbnet_c": 1984}
    for entry in ZOO:
        if entry.name in published:
            macs = entry.macs + 49 * features[entry.name]
            assert round(macs / 1e6, 1) == published[entry.name]


def test_proxyless_first_block_is_not_expanded() -> None:
    first, second = proxylessnas.proxylessnas_cpu().blocks[:2]
    assert isinstance(first.expand, nn.Identity)
    assert second.expand[0].out_channels == 6 * second.expand[0].in_channels
    assert first.project[1].eps == 1e-3


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_nasnet_pools_as_if_there_were_no_padding(side: int, stride: int) -> None:
    x = image(1, 2, side, side)
    out = -(-side // stride)
    # TensorFlow's rule: what is needed beyond the image, the smaller half before it.
    before = ((out - 1) * stride + 3 - side) // 2
    for kind, reduce in (("average", torch.mean), ("maximum", torch.amax)):
        y = nasnet.pool(x, kind, stride)
        assert tuple(y.shape[2:]) == (out, out)
        for row in range(out):
            for column in range(out):
                top, left = row * stride - before, column * stride - before
                window = x[:, :, max(top, 0) : top + 3, max(left, 0) : left + 3]
                torch.testing.assert_close(y[:, :, row, column], reduce(window, dim=(2, 3)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_nasnet_convolutions_pad_as_tensorflow(kernel: int, side: int, stride: int) -> None:
    x = image(1, 2, side, side)
    part = nasnet.Depthwise(2, kernel, stride)
    out = -(-side // stride)
    missing = (out - 1) * stride + kernel - side
    padded = functional.pad(x, (missing // 2, missing - missing // 2) * 2)
    expected = functional.conv2d(padded, part.conv.weight, stride=stride, groups=2)
    assert torch.equal(part(x), expected)


@pytest.mark.parametrize("side", [7, 8])
def test_nasnet_halves_by_even_and_odd_pixels(side: int) -> None:
    part = nasnet.Halve(1, 2).eval()
    for conv in (part.even, part.odd):
        nn.init.ones_(conv.weight)
    x = image(1, 1, side, side).abs()
    half = -(-side // 2)
    odd = torch.zeros(1, 1, half, half)
    odd[:, :, : side // 2, : side // 2] = x[:, :, 1::2, 1::2]
    expected = torch.cat((x[:, :, ::2, ::2], odd), dim=1) / (1 + nasnet.NORM_EPS) ** 0.5
    torch.testing.assert_close(part(x), expected)


def copied(pairs: list[tuple[nn.Module, nn.Module]]) -> None:
    """Give the second of each pair the first one's weights, in their order."""
    for ours, theirs in pairs:
        tensors = [tensor for tensor in ours.state_dict().values() if tensor.ndim]
        others = [tensor for tensor in theirs.state_dict().values() if tensor.ndim]
        for one, other in zip(tensors, others, strict=True):
            other.copy_(one)


@needs_timm
@pytest.mark.parametrize("side", [13, 14])
def test_nasnet_cells_are_those_of_timms_larger_one(side: int) -> None:
    """Whose weights come from the authors'."""
    timm.build_timm("mobilenetv2_035", None)  # which makes timm importable everywhere
    large = importlib.import_module("timm.models.nasnet")
    halved = -(-side // 2)
    x, previous = image(1, 24, halved, halved), image(1, 8, side, side)
    normal = seeded_cell(nasnet.NormalCell(24, 8, 12, halve=True), x, previous)
    other = large.FirstCell(8, 6, 24, 12, pad_type="same").eval()
    separable = ("left1", "right1", "left2", "right2", "left5")
    names = ("0_left", "0_right", "1_left", "1_right", "4_left")
    pairs = [
        (getattr(normal, a), getattr(other, f"comb_iter_{b}"))
        for a, b in zip(separable, names, strict=True)
    ]
    halves = [
        (normal.adjust.even, other.path_1),
        (normal.adjust.odd, other.path_2),
        (normal.adjust.norm, other.final_path_bn),
    ]
    copied([(normal.project, other.conv_1x1), *pairs, *halves])
    torch.testing.assert_close(normal(x, previous), other(x, previous))

    x, previous = image(1, 24, side, side), image(1, 8, side, side)
    reducing = nasnet.ReductionCell(24, 12, 12, nasnet.Project(8, 12))
    reducing = seeded_cell(reducing, x, previous)
    other = large.ReductionCell0(8, 12, 24, 12, pad_type="same").eval()
    separable = ("left1", "right1", "right2", "right3", "left5")
    names = ("0_left", "0_right", "1_right", "2_right", "4_left")
    pairs = [
        (getattr(reducing, a), getattr(other, f"comb_iter_{b}"))
        for a, b in zip(separable, names, strict=True)
    ]
    copied([(reducing.adjust, other.conv_prev_1x1), (reducing.project, other.conv_1x1), *pairs])
    ours, theirs = reducing(x, previous), other(x, previous)
    # At the edge timm counts the padding in where it averages, unlike TensorFlow.
    theirs[:, 12:24, [0, -1]] = ours[:, 12:24, [0, -1]]
    theirs[:, 12:24, :, [0, -1]] = ours[:, 12:24, :, [0, -1]]
    torch.testing.assert_close(ours, theirs)


def seeded_cell(cell: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    return seeded(lambda: cell, *inputs)


def test_neurons_keep_what_they_do_not_fire() -> None:
    threshold = torch.tensor(0.75)
    given, fired, potential = torch.zeros(100), torch.zeros(100), None
    for step in range(20):
        current = image(100, seed=step)
        spikes, potential = spiking.fire(current, potential, threshold)
        assert set(spikes.tolist()) <= {0.0, 1.0}
        given, fired = given + current, fired + spikes
    torch.testing.assert_close(threshold * fired + potential, given, rtol=1e-4, atol=1e-4)


def tiny_spiking(steps: int) -> spiking.SpikingVGG:
    return spiking.SpikingVGG(
        steps=steps, stages=((8, 8), (12,)), hidden=(32, 32), classes=10, side=8
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_untrained_neurons_fire_in_every_layer(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they do not, the output is zero, and any file has it right."""
    fire, shares = spiking.fire, []

    def counted(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spikes, left = fire(*given)
        shares.append(float(spikes.mean()))
        return spikes, left

    monkeypatch.setattr(spiking, "fire", counted)
    stages = ((32, 32), (64, 64, 64), (64, 64, 64))
    net = seeded(
        lambda: spiking.SpikingVGG(
            steps=steps, stages=stages, hidden=(256, 256), classes=10, side=32
        )
    )
    assert bool(net(image(1, 3, 32, 32)).abs().min() > 0)
    assert len(shares) == 10 * steps
    assert min(shares) > 0.1
    assert max(shares) < 0.8


def test_rates_converge_to_clipped_activations() -> None:
    x = image(4, 3, 8, 8)

    def rate(steps: int) -> torch.Tensor:
        net = seeded(lambda: tiny_spiking(steps))
        return net(x) / steps

    net = seeded(lambda: tiny_spiking(1))
    y = x
    for i, layer in enumerate(net.layers[:-1]):
        y = (layer(y) / net.thresholds[i]).clamp(0, 1)
        if net.pooled[i]:
            y = functional.avg_pool2d(y, 2)
        if isinstance(net.layers[i + 1], nn.Linear):
            y = y.flatten(1)
    limit = net.layers[-1](y)
    errors = [float((rate(steps) - limit).norm() / limit.norm()) for steps in (1, 16, 256)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_sums_of_spikes_do_not_depend_on_their_order() -> None:
    net = tiny_spiking(1)
    layer = net.layers[1]
    assert torch.equal(layer.weight / spiking.GRID, (layer.weight / spiking.GRID).round())
    spikes = (image(1, 8, 8, 8) > 0).float()
    back = torch.arange(7, -1, -1)
    other = functional.conv2d(spikes[:, back], layer.weight[:, back], padding=1)
    assert torch.equal(layer(spikes), other)
    exact = functional.conv2d(spikes.double(), layer.weight.double(), padding=1)
    assert torch.equal(layer(spikes).double(), exact)


def test_first_filters_look_at_one_pixel() -> None:
    weight = tiny_spiking(1).layers[0].weight.flatten(1)
    assert weight.count_nonzero(dim=1).tolist() == [1] * 8
    assert set(weight.abs().amax(dim=1).tolist()) == {spiking.FIRST}


def test_work_grows_with_the_steps_but_for_the_first_layer() -> None:
    x = torch.zeros(1, 3, 8, 8)
    one, two, five = (count(tiny_spiking(steps), (x,)).macs for steps in (1, 2, 5))
    assert five - one == 4 * (two - one)
    assert 2 * one - two == 3 * 9 * 8 * 64


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (tiny_graph, 64),
        (lambda: tiny_graph(greedyvig.dynamic), 64),
        (tiny_efficientmod, 64),
        (proxylessnas.proxylessnas_gpu, 64),
        (fbnet.fbnet_96, 96),
        (nasnet.nasnet_a_mobile, 64),
    ],
    ids=["mobilevigv2", "greedyvig", "efficientmod", "proxylessnas", "fbnet", "nasnet"],
)
def test_all_parameters_are_trained(build: Callable[[], nn.Module], side: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build().train()
        outputs = net(image(2, 3, side, side))
    logits = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(one.square().sum() for one in logits).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    first = net.eval()(image(1, 3, side, side))
    assert tuple(first.shape) == (1, 1000)
    assert torch.equal(net(image(1, 3, side, side)), first)
