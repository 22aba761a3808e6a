"""The networks of tokens against their descriptions: attention, windows, norms, frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from latbench.zoo import timm  # noqa: E402
from latbench.zoo.macs import count  # noqa: E402
from latbench.zoo.nets import (  # noqa: E402
    cswin,
    inception_transformer,
    l2vit,
    linear_swin,
    prepbn,
    resformer,
    spectformer,
    strip_mlp,
    swin,
    tokens,
)
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


def changed(part: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, at: int) -> torch.Tensor:
    """Which tokens of a square map change with token ``at``. -> (side, side) of bool."""
    other = x.clone()
    other[:, at] *= -1
    difference = (part(other) - part(x)).abs().amax(-1)[0]
    side = math.isqrt(len(difference))
    return difference.reshape(side, side) > 0


def tiny_swin(norm: Callable[[int], nn.Module] = prepbn.PRepBN) -> linear_swin.LinearSwin:
    return linear_swin.LinearSwin(
        depths=(1, 1, 2, 1), linear=linear_swin.LinearAttention, norm=norm, drop_path=0.1
    )


def test_linear_attention_is_attention_without_softmax() -> None:
    part = seeded(lambda: linear_swin.LinearAttention(64, 4))
    nn.init.zeros_(part.local.weight)
    nn.init.zeros_(part.local.bias)
    x = image(2, 16, 64)
    query, key, value = part.qkv(x).chunk(3, dim=-1)
    query, key = query.relu(), (key + part.position).relu()
    mixed = []
    for head in range(2):
        of = slice(32 * head, 32 * head + 32)
        scores = query[..., of] @ key[..., of].transpose(1, 2)
        mixed.append(scores / (scores.sum(-1, keepdim=True) + 1e-6) @ value[..., of])
    torch.testing.assert_close(
        part(x), part.project(torch.cat(mixed, dim=-1)), rtol=1e-4, atol=1e-5
    )


def test_focused_features_keep_their_length() -> None:
    part = linear_swin.FocusedAttention(64, 4)
    query, key = image(2, 16, 64), image(2, 16, 64, seed=2)
    for focused, plain in zip(part.features(query, key), (query, key), strict=True):
        divided = (plain.relu() + 1e-6) / functional.softplus(torch.zeros(()))
        torch.testing.assert_close(focused.norm(dim=-1), divided.norm(dim=-1))
        direction = functional.normalize(divided**3, dim=-1)
        torch.testing.assert_close(functional.normalize(focused, dim=-1), direction)
    assert next(name for name, _ in part.named_parameters()) == "scale"


def test_both_linear_attentions_weigh_alike() -> None:
    """Means instead of sums are the same but for the small number that keeps them from zero."""
    query, key, value = (image(1, 2, 16, 32, seed=i).abs() for i in range(3))
    sums = linear_swin.LinearAttention(64, 4).mix(query, key, value)
    means = linear_swin.FocusedAttention(64, 4).mix(query, key, value)
    torch.testing.assert_close(sums, means, rtol=1e-4, atol=1e-5)


def test_values_nearby_are_those_of_the_pixel_beside() -> None:
    part = linear_swin.LinearAttention(64, 5)
    nn.init.zeros_(part.local.weight)
    nn.init.zeros_(part.local.bias)
    part.local.weight.data[:, :, 2, 3] = 1  # the pixel to the right
    value = image(2, 2, 25, 32)
    maps = value.unflatten(2, (5, 5))
    expected = torch.cat((maps[:, :, :, 1:], torch.zeros(2, 2, 5, 1, 32)), dim=3)
    torch.testing.assert_close(part.nearby(value), expected.flatten(2, 3))


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_do_not_see_each_other(shifted: bool) -> None:
    """Which pixels change with one: those of its window, the image not being a ring."""
    part = seeded(lambda: swin.WindowAttention(32, 14, shifted=shifted))
    x = image(1, 196, 32)
    for row, column in ((0, 0), (5, 12), (13, 13)):
        other = x.clone()
        other[:, 14 * row + column] += 1
        changed = (part(other) - part(x)).abs().amax(-1).reshape(14, 14) > 0
        edges = (0, 3, 10, 14) if shifted else (0, 7, 14)
        expected = torch.zeros(14, 14, dtype=torch.bool)
        top = max(edge for edge in edges if edge <= row)
        left = max(edge for edge in edges if edge <= column)
        bottom = min(edge for edge in edges if edge > row)
        right = min(edge for edge in edges if edge > column)
        expected[top:bottom, left:right] = True
        # -100 is not minus infinity, but its exponential is nothing beside one.
        assert torch.equal(changed, expected)


def test_window_bias_is_by_relative_position() -> None:
    index = swin.relative_positions().reshape(7, 7, 7, 7)
    assert index[3, 3, 3, 3] == 84
    assert torch.equal(index[1:, :, 1:, :], index[:-1, :, :-1, :])
    assert torch.equal(index[:, 1:, :, 1:], index[:, :-1, :, :-1])
    assert index.unique().numel() == 13**2


@needs_timm
def test_blocks_with_windows_are_those_of_swin() -> None:
    stage = timm.build_timm("swin_tiny_patch4_window7_224", None).eval().layers[2]
    x = image(2, 196, 384)
    for theirs, shifted in zip(stage.blocks, (False, True), strict=False):
        attention = swin.WindowAttention(384, 14, shifted=shifted)
        ours = seeded(lambda inner=attention: linear_swin.Block(384, inner, nn.LayerNorm, 0.0))
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            two.data.copy_(one)
        expected = theirs(x.unflatten(1, (14, 14))).flatten(1, 2)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


@needs_timm
def test_maps_are_merged_as_in_swin() -> None:
    theirs = timm.build_timm("swin_tiny_patch4_window7_224", None).eval().layers[2].downsample
    ours = seeded(lambda: linear_swin.Merge(192, 14, nn.LayerNorm))
    theirs.norm.load_state_dict(ours.norm.state_dict())
    theirs.reduction.load_state_dict(ours.reduce.state_dict())
    x = image(2, 196, 192)
    expected = theirs(x.unflatten(1, (14, 14))).flatten(1, 2)
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


def test_merged_corners_in_swins_order() -> None:
    part = linear_swin.Merge(1, 2, lambda width: nn.Identity())
    part.reduce = nn.Identity()
    assert part(torch.arange(4.0).reshape(1, 4, 1)).flatten().tolist() == [0, 2, 1, 3]


def test_prepbn_turns_from_layer_norm_to_batch_norm() -> None:
    part = prepbn.PRepBN(6).train()
    x = image(2, 5, 6)
    torch.testing.assert_close(part(x), part.early(x))
    part.steps_left.fill_(0)
    torch.testing.assert_close(part(x), part.late(x))
    assert int(part.steps_left) == 0
    part.steps_left.fill_(prepbn.STEPS // 4)
    torch.testing.assert_close(part(x), part.early(x) / 4 + part.late(x) * 3 / 4)
    assert int(part.steps_left) == prepbn.STEPS // 4 - 1
    part.eval()
    assert torch.equal(part(x), part.late(x))


@pytest.mark.parametrize("bias", [True, False])
def test_prepbn_folds_into_the_layer_behind(bias: bool) -> None:
    x = image(2, 5, 6)
    part = seeded(lambda: prepbn.PRepBN(6), x)
    layer = nn.Linear(6, 3, bias=bias)
    before = layer(part(x))
    rest = prepbn.absorb_after(part, layer)
    assert isinstance(rest, nn.Identity)
    torch.testing.assert_close(layer(x), before)


def test_prepbn_folds_into_the_convolution_before() -> None:
    x = image(2, 3, 4, 4)
    conv = nn.Conv2d(3, 6, 2, 2)
    part = seeded(lambda: prepbn.PRepBN(6), conv(x).flatten(2).transpose(1, 2))
    before = part(conv(x).flatten(2).transpose(1, 2))
    prepbn.absorb_before(part, conv)
    torch.testing.assert_close(conv(x).flatten(2).transpose(1, 2), before)


def test_slab_has_no_norm_left() -> None:
    x = image(1, 3, 224, 224)
    net = seeded(tiny_swin, x)
    before = net(x)
    deployed = deploy_form(net, (x,))
    assert not any(
        isinstance(part, prepbn.PRepBN | nn.BatchNorm1d | nn.LayerNorm)
        for part in deployed.modules()
    )
    torch.testing.assert_close(deployed(x), before, rtol=1e-4, atol=1e-4)


def test_flatten_keeps_its_norms() -> None:
    net = tiny_swin(nn.LayerNorm)
    norms = [name for name, part in net.named_modules() if isinstance(part, nn.LayerNorm)]
    for part in net.modules():
        if isinstance(part, linear_swin.Block | linear_swin.Merge | linear_swin.LinearSwin):
            part.switch_to_deploy()
    assert len(norms) == 15
    assert [n for n, part in net.named_modules() if isinstance(part, nn.LayerNorm)] == norms


@pytest.mark.parametrize(("rows", "columns"), [(6, 2), (3, 6), (2, 3)])
def test_windows_are_cut_and_put_together(rows: int, columns: int) -> None:
    x = image(2, 36, 4)
    windows = tokens.split(x, 6, rows, columns)
    assert tuple(windows.shape) == (2, 36 // rows // columns, rows * columns, 4)
    first = x.unflatten(1, (6, 6))[:, :rows, :columns].flatten(1, 2)
    assert torch.equal(windows[:, 0], first)
    assert torch.equal(tokens.join(windows, 6, rows, columns), x)


def test_paths_are_dropped_for_whole_images() -> None:
    path = tokens.DropPath(0.5).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = path(torch.ones(64, 3, 2))
    assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert all(one.unique().numel() == 1 for one in out)
    assert torch.equal(path.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_stripes_of_cswin_make_a_cross() -> None:
    block = seeded(lambda: cswin.Block(64, 2, 14, 7, 0.0))
    x = image(1, 196, 64)
    expected = torch.zeros(14, 14, dtype=torch.bool)
    expected[:, 7:] = True  # the column stripe of (3, 9)
    expected[:7, :] = True  # its row stripe
    assert torch.equal(changed(block, x, 3 * 14 + 9), expected)


def test_positions_of_cswin_end_with_the_stripe() -> None:
    part = seeded(lambda: cswin.StripeAttention(32, 1, 4, 4, 2))
    nothing = torch.zeros(1, 16, 32)
    value = torch.zeros(1, 16, 32)
    value[:, 5] = 1  # row 1, column 1: its right neighbour is in another stripe
    # With equal keys attention is the mean of the stripe, alike for all pixels of it.
    out = part(nothing, nothing, value).unflatten(1, (4, 4))
    rest = out - part.position.bias
    assert float(rest[:, :, 2:].abs().max()) == 0
    centre = part.position.weight[:, 0, 1, 1] + 1 / 8
    torch.testing.assert_close(rest[0, 1, 1], centre)


def test_high_frequencies_are_convolved_and_pooled() -> None:
    part = inception_transformer.HighMixer(8)
    x = image(1, 8, 5, 5)
    convolved = functional.gelu(part.depthwise(part.expand(x[:, :4])))
    pooled = functional.gelu(part.project(functional.max_pool2d(x[:, 4:], 3, 1, 1)))
    assert torch.equal(part(x), torch.cat((convolved, pooled), dim=1))


@pytest.mark.parametrize("halve", [False, True])
def test_low_frequencies_attend(halve: bool) -> None:
    part = inception_transformer.LowMixer(64, halve=halve)
    x = image(1, 64, 4, 4)
    small = functional.avg_pool2d(x, 2) if halve else x
    side = small.shape[2]
    query, key, value = (
        part.qkv(small.flatten(2).transpose(1, 2)).unflatten(2, (3, 2, 32)).unbind(2)
    )
    scores = torch.einsum("nihd,njhd->nhij", query, key) / 32**0.5
    mixed = torch.einsum("nhij,njhd->nhdi", scores.softmax(-1), value).reshape(1, 64, side, side)
    expected = mixed.repeat_interleave(2, 2).repeat_interleave(2, 3) if halve else mixed
    torch.testing.assert_close(part(x), expected, rtol=1e-4, atol=1e-5)


def test_linear_attention_of_l2vit_divides_by_no_less_than_its_limit() -> None:
    part = l2vit.LinearAttention(64)
    for scale in (1.0, 100.0):  # sums of products below the limit, and above
        x = scale * image(2, 9, 64)
        query, key, value = part.qkv(x).unflatten(2, (3, 2, 32)).unbind(2)
        scores = torch.einsum("nihd,njhd->nhij", query.relu(), key.relu())
        total = scores.sum(-1, keepdim=True).clamp(min=100.0)
        mixed = torch.einsum("nhij,njhd->nihd", scores / total * part.temperature, value)
        torch.testing.assert_close(
            part(x), part.project(mixed.flatten(2)), rtol=1e-3, atol=1e-4 * scale
        )


def test_windows_and_whole_images_by_turns_in_l2vit() -> None:
    kinds = [[type(block).__name__ for block in stage] for stage in l2vit.l2vit_t().stages]
    assert kinds[0] == ["WindowBlock", "LinearBlock"]
    assert kinds[2] == ["WindowBlock", "LinearBlock"] * 3
    x = image(1, 196, 32)
    windows = l2vit.WindowAttention(32)
    expected = torch.zeros(14, 14, dtype=torch.bool)
    expected[:7, 7:] = True
    assert torch.equal(changed(windows, x, 3 * 14 + 9), expected)


def tiny_resformer() -> resformer.ResFormer:
    net = resformer.ResFormer(width=64, drop_path=0.1)
    net.blocks = net.blocks[:2]
    return net


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96)])
def test_resformer_keeps_the_positions_of_the_size_it_met(height: int, width: int) -> None:
    x = image(2, 3, height, width)
    net = seeded(tiny_resformer)
    before = net(x)
    fused = deploy_form(net, (x,))
    torch.testing.assert_close(fused(x), before)
    assert count(fused, (x,)).operators["conv"] == 3  # patches, and one for each block
    fused = deploy_form(fused, (x,))
    torch.testing.assert_close(fused(x), before)


def test_sines_tell_rows_and_columns() -> None:
    sines = resformer.sines(8, (5, 3), torch.zeros(1))[0]
    assert tuple(sines.shape) == (8, 5, 3)
    for row in range(5):
        for column in range(3):
            for i in range(4):
                frequency = 10_000.0 ** -(2 * (i // 2) / 4)
                wave = math.cos if i % 2 else math.sin
                for first, place, size in ((0, row, 5), (4, column, 3)):
                    angle = (place + 1) / (size + 1e-6) * 2 * math.pi * frequency
                    assert float(sines[first + i, row, column]) == pytest.approx(
                        wave(angle), abs=1e-5
                    )


def test_a_token_for_the_class_has_no_place() -> None:
    part = seeded(lambda: resformer.Attention(64))
    nn.init.zeros_(part.qkv.weight)
    nn.init.zeros_(part.qkv.bias)
    out = part(image(1, 10, 64), (3, 3))
    # Values are zero: what is left are the biases, and nothing for the class.
    torch.testing.assert_close(out[:, 0], part.project.bias.expand(1, -1))
    torch.testing.assert_close(out[:, 1], part.project(part.position.bias).expand(1, -1))


def test_a_gate_on_frequencies_is_a_cyclic_convolution() -> None:
    """A product of spectra: shifting the image shifts what comes out."""
    part = seeded(lambda: spectformer.SpectralGate(3, 8))
    x = image(1, 64, 3)
    torch.testing.assert_close(part(x.roll(16, 1)), part(x).roll(16, 1), rtol=1e-4, atol=1e-5)
    identity = torch.zeros_like(part.weight)
    identity[..., 0] = 1
    part.weight.copy_(identity)
    torch.testing.assert_close(part(x), x, rtol=1e-4, atol=1e-5)


def test_class_block_of_spectformer_changes_only_the_class() -> None:
    block = seeded(lambda: spectformer.ClassBlock(64, 2))
    x = image(2, 9, 64)
    out = block(x)
    assert torch.equal(out[:, 1:], x)
    token = x.mean(dim=1, keepdim=True)
    normed = block.attention_norm(torch.cat((token, x), dim=1))
    token = token + block.attention(normed)[:, :1]
    torch.testing.assert_close(out[:, :1], token + block.ffn(block.ffn_norm(token)))


def test_strips_mix_rows_with_the_rows_beside_them() -> None:
    part = seeded(lambda: strip_mlp.StripMixing(32, 5))
    nn.init.zeros_(part.fuse_columns.weight[:, :16])  # without the shortcut
    x = image(1, 16, 5, 5)
    other = x.clone()
    other[:, :, 0, 2] += 1
    rows = []
    part.fuse_rows.register_forward_pre_hook(lambda _, args: rows.append(args[0][:, :16]))
    part.strips(x)
    part.strips(other)
    moved = (rows[1] - rows[0]).abs().amax(1)[0] > 1e-6
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[:2] = True  # all columns of this row and of the one below
    assert torch.equal(moved, expected)


def test_strip_positions_are_by_difference() -> None:
    part = strip_mlp.RelativePosition(4, 3)
    out = part()
    assert tuple(out.shape) == (1, 4, 3, 3)
    for row in range(3):
        for column in range(3):
            assert torch.equal(out[0, :, row, column], part.table[column - row + 3])


def test_weights_of_near_branches_sum_to_one() -> None:
    part = seeded(lambda: strip_mlp.StripMixing(32, 5))
    for conv in (part.wide, part.tall):
        nn.init.zeros_(conv.weight)
        middle = tuple(size // 2 for size in conv.kernel_size)
        conv.weight[:, :, middle[0], middle[1]] = 1
    x = image(1, 16, 5, 5)
    torch.testing.assert_close(part.near(x), x)


@pytest.mark.parametrize(
    "build",
    [
        tiny_swin,
        lambda: cswin.CSWin(width=32, depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), drop_path=0.1),
        lambda: inception_transformer.InceptionTransformer(
            widths=(64, 96, 96, 96), heads=((1,), (1,), (2,), (2,)), drop_path=0.1
        ),
        lambda: l2vit.L2ViT(width=32, depths=(2, 1, 1, 1), drop_path=0.1),
        tiny_resformer,
        lambda: spectformer.SpectFormer(stem=8, widths=(32, 32, 32, 32), depths=(1, 1, 1, 1)),
        lambda: strip_mlp.StripMLP(width=16, depths=(1, 1, 1, 1)),
    ],
    ids=["swin", "cswin", "inception", "l2vit", "resformer", "spectformer", "strip_mlp"],
)
def test_all_parameters_are_trained(build: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build().train()
        for part in net.modules():
            if isinstance(part, prepbn.PRepBN):  # LayerNorm and BatchNorm both have a share
                part.steps_left.fill_(prepbn.STEPS // 2)
            if isinstance(part, tokens.DropPath):
                part.probability = 0.0  # an image of two may lose its branch
        outputs = net(image(2, 3, 224, 224))
    logits = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(one.square().sum() for one in logits).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    first = net.eval()(image(1, 3, 224, 224))
    assert tuple(first.shape) == (1, 1000)
    assert torch.equal(net(image(1, 3, 224, 224)), first)
