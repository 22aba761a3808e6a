"""MobileNetV2 computes what timm's does, at each width."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

from latbench.zoo import timm  # noqa: E402
from latbench.zoo.nets.mobilenetv2 import MobileNetV2, in_eights  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("multiplier", "name"), [(1.0, "mobilenetv2_100"), (1.4, "mobilenetv2_140")]
)
def test_it_is_timms(multiplier: float, name: str) -> None:
    if find_spec("timm") is None:
        pytest.skip("needs the `timm` extra")
    ours = MobileNetV2(multiplier).eval()
    theirs = timm.build_timm(name, None).eval()
    generator = torch.Generator().manual_seed(0)
    weights = ours.state_dict()
    for value in weights.values():
        if value.is_floating_point():
            # Positive, so that variances are; their size keeps the activations apart from zero.
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights.values(), strict=True)))
    x = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_widths_are_in_eights() -> None:
    found = [in_eights(width * 1.3) for width in (32, 16, 24, 32, 64, 96, 160, 320)]
    assert found == [40, 24, 32, 40, 80, 128, 208, 416]
    assert in_eights(0.35 * 24) == 8
    assert in_eights(13 * 0.9) == 16
