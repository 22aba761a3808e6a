"""Counting, folding and seeding on networks whose truth is known, and on timm's."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from support.environment import TINY

torch = pytest.importorskip("torch", reason="models need the `export` extra")
from torch import nn  # noqa: E402

from latbench.errors import StageError, UsageError  # noqa: E402
from latbench.zoo import builder, catalog  # noqa: E402
from latbench.zoo.lazy_model import LazyModel  # noqa: E402
from latbench.zoo.macs import count  # noqa: E402
from latbench.zoo.model import ResolvedModel  # noqa: E402
from latbench.zoo.reparameterize import deploy_form, fold_batch_norms  # noqa: E402
from latbench.zoo.resolver import resolve  # noqa: E402
from latbench.zoo.weights import seed_statistics, seed_weights  # noqa: E402

pytestmark = pytest.mark.torch
# Not importorskip: beside a torchvision that does not load, only we can import timm.
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs the `timm` extra")


def lazy(name: str, **changes: object) -> LazyModel:
    arguments = {"weights": None, "batch": None, "resolution": None, "seed": 0, **changes}
    return LazyModel(resolved=resolve(name, **arguments))  # type: ignore[arg-type]


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


class Attention(nn.Module):
    """Two linear layers around products of activations, and a product with a derived constant."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(4, 8))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(mixed) @ (self.table * 2).t()


def test_linear_layers_count_and_attention_does_not() -> None:
    counts = count(Attention(), (x(2, 5, 8),))
    assert counts.operators == {"conv": 0, "linear": 3}
    assert counts.macs == 2 * 5 * (8 * 24 + 8 * 8 + 8 * 4)
    assert counts.parameters == 8 * 24 + 24 + 8 * 8 + 8 + 32


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 5), 2 * 6 * 25 * 36),
        (nn.Conv2d(4, 8, 3, groups=4), (1, 4, 5, 5), 8 * 9 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 100 * 6 * 4),
        (nn.Linear(3, 7), (2, 3), 2 * 21),
        (nn.Linear(3, 7, bias=False), (2, 5, 3), 2 * 5 * 21),
        (nn.Conv1d(2, 3, 3), (1, 2, 10), 3 * 8 * 6),
    ],
)
def test_macs_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count(layer, (x(*shape),)).macs == macs


class Shared(nn.Module):
    """A convolution's output that BatchNorm is not alone to use, and one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.b, self.b_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.c, self.c_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = self.a(image)
        y = self.a_norm(y) + y
        y = self.b_norm(self.b(self.b_norm(self.b(y))))
        return self.c_norm(self.c(y))


def test_only_what_may_be_folded_is_folded() -> None:
    module = Shared().eval()
    seed_weights(module, 0)
    with torch.no_grad():
        folded = fold_batch_norms(module, (x(1, 3, 4, 4),))
        torch.testing.assert_close(folded(x(2, 3, 6, 6)), module(x(2, 3, 6, 6)))
    norms = [name for name, part in folded.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms == ["a_norm", "b_norm"]


def test_linear_and_batch_norm_fold() -> None:
    module = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)).eval()
    seed_weights(module, 0)
    with torch.no_grad():
        folded = fold_batch_norms(module, (x(3, 4),))
        torch.testing.assert_close(folded(x(5, 4)), module(x(5, 4)))
    assert isinstance(folded[1], nn.Identity)


TIMM = (
    "mobilenetv2_100",
    "mobileone_s0",
    "repvit_m0_9",
    "resnet18",
    "ghostnetv2_100",
    "deit_tiny_patch16_224",
)
FUSED = {"mobileone_s0": 2_078_504, "resnet18": 11_684_712, "deit_tiny_patch16_224": 5_717_416}


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm_models_in_deploy_form(name: str) -> None:
    model = lazy(f"timm:{name}")
    module = model.module()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    if name in FUSED:
        assert model.counts().parameters == FUSED[name]
    with torch.no_grad():
        logits = module(x(1, 3, 224, 224))
    assert bool(torch.isfinite(logits).all())
    assert 1e-3 < float(logits.std()) < 1e3


@needs_timm
def test_unknown_timm_names_offer_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        lazy("timm:mobilenetv2_10").module()
    assert "mobilenetv2_100" in (caught.value.hint or "")


@needs_timm
def test_a_resolution_that_a_timm_model_cannot_take() -> None:
    with pytest.raises(StageError) as caught:
        lazy("timm:vit_tiny_patch16_224", resolution=(7, 7)).module()
    assert caught.value.stage == "build"


@pytest.mark.parametrize("change", [{"parameters": 1}, {"macs": 1}])
def test_a_model_that_is_not_what_it_declares(change: dict[str, int]) -> None:
    entry = msgspec.structs.replace(catalog.find("mobilevig_ti"), **change)
    model = ResolvedModel(identity=lazy("mobilevig_ti").identity, weights=None, seed=0, entry=entry)
    with pytest.raises(StageError, match="1 are declared") as caught:
        builder.build(model)
    assert caught.value.kind == "mismatch"


def test_nothing_is_left_constant() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.GroupNorm(1, 8), nn.Flatten(), nn.Linear(8, 4)
    )
    nn.init.zeros_(module[1].weight)
    module.register_parameter("layer_scale", nn.Parameter(torch.full((8,), 1e-5)))
    seed_weights(module, 0)
    seed_statistics(module.eval(), (x(2, 3, 1, 1),), 0)
    for name, parameter in module.named_parameters():
        assert parameter.unique().numel() == parameter.numel(), name
        assert float(parameter.detach().abs().max()) > 1e-3, name
    assert float(module[1].running_var.min()) > 0
    assert module[1].running_var.unique().numel() == 8
    assert module[1].running_mean.unique().numel() == 8


def test_seeds_are_reproducible_and_differ() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(lazy(TINY, seed=seed).module().parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_building_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    lazy(TINY).module()
    assert torch.equal(torch.rand(1), expected)


FAMILIES = list(
    {entry.factory.partition(":")[0]: entry for entry in reversed(catalog.ZOO)}.values()
)
"""The first, which is the smallest, of each module."""


@pytest.mark.slow
@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry.name)
def test_seeded_outputs_are_sane(entry: catalog.ZooModel) -> None:
    with torch.no_grad():
        logits = lazy(entry.name).module()(x(2, *entry.input_shape))
    assert bool(torch.isfinite(logits).all())
    tiny = torch.finfo(torch.float32).tiny
    assert not bool(((logits != 0) & (logits.abs() < tiny)).any())
    assert not torch.allclose(logits[0], logits[1], rtol=1e-3)


class Branch(nn.Module):
    """Fuses itself by the field's method name."""

    def __init__(self) -> None:
        super().__init__()
        self.a: nn.Module | None = nn.Conv2d(3, 3, 1)
        self.b: nn.Module | None = nn.Conv2d(3, 3, 1)
        self.fused: nn.Conv2d | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.fused is not None:
            return self.fused(image)
        assert self.a is not None
        assert self.b is not None
        return self.a(image) + self.b(image)

    def switch_to_deploy(self) -> None:
        fused = copy.deepcopy(self.a)
        with torch.no_grad():
            for mine, other in zip(fused.parameters(), self.b.parameters(), strict=True):  # type: ignore[union-attr]
                mine += other
        self.fused, self.a, self.b = fused, None, None  # type: ignore[assignment]


def test_a_users_branches_are_fused() -> None:
    module = nn.Sequential(Branch(), nn.ReLU()).eval()
    before = module(x(1, 3, 4, 4))
    fused = deploy_form(module, (x(1, 3, 4, 4),))
    torch.testing.assert_close(fused(x(1, 3, 4, 4)), before)
    assert count(fused, (x(1, 3, 4, 4),)).operators["conv"] == 1


@pytest.mark.parametrize(
    ("declared", "resolution", "shape"),
    [
        ("input_shape = (1, 48, 64)", None, (1, 1, 48, 64)),
        ("default_cfg = {'input_size': (3, 40, 40)}", None, (1, 3, 40, 40)),
        ("pretrained_cfg = {'input_size': [3, 40, 56]}", None, (1, 3, 40, 56)),
        ("default_cfg = type('Cfg', (), {'input_size': (3, 40, 40)})()", None, (1, 3, 40, 40)),
        ("default_cfg = {'input_size': None}", None, (1, 3, 224, 224)),
        ("default_cfg = {'input_size': (3, 40, 40)}", (32, 48), (1, 3, 32, 48)),
    ],
)
def test_a_users_network_is_timed_at_the_size_that_it_declares(
    tmp_path: Path,
    declared: str,
    resolution: tuple[int, int] | None,
    shape: tuple[int, ...],
) -> None:
    channels = shape[1]
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        f"    {declared}\n"
        "def make():\n"
        f"    return Net(nn.Conv2d({channels}, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    name = f"{tmp_path / 'net.py'}:make"
    model = resolve(name, weights=None, batch=None, resolution=resolution, seed=0)
    assert builder.build(model).inputs.specs[0].shape == shape
