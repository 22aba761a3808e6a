"""Our networks against what their authors' own definitions gave for the same weights and image.

The golden files hold a few outputs of the authors' code in double precision, and where that is.
Weights and statistics are set by :func:`fill` in our network and were carried over to theirs.
"""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import pytest

from support.environment import GOLDEN

torch = pytest.importorskip("torch", reason="models need the `export` extra")

from torch import nn  # noqa: E402

from latbench.schema.artifact import TensorSpec  # noqa: E402
from latbench.schema.seeded_inputs import make_inputs  # noqa: E402
from latbench.zoo.catalog import find  # noqa: E402

pytestmark = pytest.mark.torch

SHOWN = [round(i * 999 / 7) for i in range(8)]
"""Which of the logits the golden files hold."""


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """On [-sqrt 3, sqrt 3): zero mean and unit variance."""
    (array,) = make_inputs((TensorSpec(name="any", shape=shape, dtype="float32"),), seed)
    return torch.from_numpy(array).double()


def fill(module: nn.Module, gain: float) -> nn.Module:
    """Set all parameters and all statistics of BatchNorm; the module in double precision.

    By place in the state dict. What starts constant (scales, biases, statistics) is drawn around
    zero or one, whichever is nearer; filters and matrices by their inputs, with ``gain``.
    """
    module = module.double().eval().requires_grad_(False)
    trained = {name for name, _ in module.named_parameters()}
    for place, (name, tensor) in enumerate(module.state_dict().items()):
        if name not in trained and not name.endswith(("running_mean", "running_var")):
            continue
        noise = drawn(tuple(tensor.shape), place + 1)
        first = float(tensor.flatten()[0])
        if tensor.ndim < 2 or bool((tensor == first).all()):
            tensor.copy_(round(abs(first)) + noise / 4 if tensor.ndim else abs(1 + noise / 4))
        else:
            tensor.copy_(noise * math.sqrt(gain * tensor.shape[0] / tensor.numel()))
    return module


def ours(name: str, gain: float) -> tuple[nn.Module, torch.Tensor]:
    """The network called ``name``, filled, and an image for it."""
    entry = find(name)
    module, _, factory = entry.factory.partition(":")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(importlib.import_module(module), factory)()
    return fill(net, gain), drawn((1, *entry.input_shape), 0)


def cases() -> list[Any]:
    return [
        pytest.param(name, entry, id=name, marks=[pytest.mark.slow] if entry["slow"] else [])
        for path in sorted(GOLDEN.glob("authors-*.json"))
        for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
    ]


@pytest.mark.parametrize(("name", "entry"), cases())
def test_computes_what_its_authors_definition_does(name: str, entry: dict[str, Any]) -> None:
    net, image = ours(name, entry["gain"])
    logits = net(image)[0]
    assert logits[SHOWN].tolist() == pytest.approx(entry["logits"], rel=1e-6)
    assert float(logits.abs().mean()) == pytest.approx(entry["mean"], rel=1e-6)
