"""What is unusual about users' networks is observed when they are built."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the `export` extra")

from latbench.errors import LatbenchError, StageError  # noqa: E402
from latbench.zoo.builder import BuiltModel, build  # noqa: E402
from latbench.zoo.resolver import resolve  # noqa: E402

pytestmark = pytest.mark.torch

NETWORKS = """
import torch
import torch.nn.utils.prune
from torch import nn

class Net(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

class TwoHeads(Net):
    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(8, 10)

    def forward(self, x):
        f = self.body(x).mean((2, 3))
        return (self.head(f), self.aux(f)) if self.training else self.head(f)

class InPlace(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.45).div_(0.225))

class Drop(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)

class Random(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(self.body, nn.Sequential(nn.ReLU(), Drop()))

class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)

class Part(Net):
    def __init__(self):
        super().__init__()
        self.body = torch.jit.script(self.body)

def weight_normed():
    net = Net()
    torch.nn.utils.parametrizations.weight_norm(net.body)
    torch.nn.utils.parametrizations.spectral_norm(net.head)
    return net

def hooked():
    net = Net()
    torch.nn.utils.weight_norm(net.body)
    torch.nn.utils.prune.l1_unstructured(net.head, "weight", amount=0.5)
    return net

class Batched(Net):
    input_shape = (1, 3, 8, 8)

class Vague(Net):
    input_shape = "8x8"

class Complex(Net):
    def forward(self, x):
        return torch.fft.fft(super().forward(x))

class Failing(Net):
    def forward(self, x):
        raise ValueError("first\\nsecond")

class KeywordOnly(Net):
    def forward(self, x, *, mask):
        return super().forward(x) * mask

def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten())
def meta():
    with torch.device("meta"):
        return Net()
def program(): return torch.export.export(Net().eval(), (torch.zeros(1, 3, 8, 8),)).module()
def with_classes(classes): return Net()
def half(): return Net().half()
def bfloat(): return Net().bfloat16()
def double(): return Net().double()
def compiled(): return torch.compile(Net())
def parallel(): return nn.DataParallel(Net())
def scripted(): return torch.jit.script(Net())
def traced(): return torch.jit.trace(Net().eval(), torch.zeros(1, 3, 8, 8))
"""


def built(tmp_path: Path, factory: str) -> BuiltModel:
    path = tmp_path / "nets.py"
    path.write_text(NETWORKS)
    return build(resolve(f"{path}:{factory}", weights=None, batch=None, resolution=None, seed=0))


def test_an_ordinary_network_has_no_notes(tmp_path: Path) -> None:
    assert built(tmp_path, "Net").notes == {}


def test_a_head_for_training_is_not_counted(tmp_path: Path) -> None:
    found = built(tmp_path, "TwoHeads")
    assert found.counts == built(tmp_path, "Net").counts
    assert found.counts.parameter_bytes == 4 * found.counts.parameters == 4 * 314
    assert found.trained_parameters == 314 + 90
    (note,) = found.notes.values()
    assert note == "90 parameters, which the evaluated forward never reads: aux"


def test_inputs_that_are_changed_in_place_are_copied(tmp_path: Path) -> None:
    found = built(tmp_path, "InPlace")
    image = torch.rand(1, 3, 8, 8)
    before = image.clone()
    assert torch.equal(found.module(image), found.module(image))
    assert torch.equal(image, before)
    assert "in place" in found.notes["inputs"]


@pytest.mark.parametrize(
    ("factory", "part"), [("Random", "body.1.1 (Drop)"), ("Noisy", "the forward of Noisy")]
)
def test_the_part_that_is_random_is_named(tmp_path: Path, factory: str, part: str) -> None:
    assert built(tmp_path, factory).notes["random"] == f"{part}, random in evaluation"


@pytest.mark.parametrize(
    ("factory", "note"),
    [
        ("half", "float16 cast to float32"),
        ("bfloat", "bfloat16 cast to float32"),
        ("double", "float64 cast to float32"),
        ("compiled", "OptimizedModule unwrapped"),
        ("parallel", "DataParallel unwrapped"),
    ],
)
def test_a_plain_network_is_taken(tmp_path: Path, factory: str, note: str) -> None:
    found = built(tmp_path, factory)
    assert found.notes == {"network": note}
    assert all(parameter.dtype == torch.float32 for parameter in found.module.parameters())


@pytest.mark.parametrize("factory", ["weight_normed", "hooked"])
def test_weights_that_are_computed_are_plain_in_the_deployed_form(
    tmp_path: Path, factory: str
) -> None:
    found, plain = built(tmp_path, factory), built(tmp_path, "Net")
    assert found.counts == plain.counts
    assert found.trained_parameters >= plain.trained_parameters
    assert found.notes["fused"] == "computed weights"
    assert set(found.module.state_dict()) == set(plain.module.state_dict())


def test_an_input_shape_with_a_batch_is_taken(tmp_path: Path) -> None:
    assert built(tmp_path, "Batched").inputs.specs == built(tmp_path, "Net").inputs.specs


@pytest.mark.parametrize(
    ("factory", "message", "hint"),
    [
        ("Vague", "the input_shape of .* is '8x8', not channels", "--shape"),
        ("Complex", "returns complex numbers", "view_as_real"),
        ("Failing", r"ValueError: first \(nets.py:\d+\)$", "--shape"),
        ("KeywordOnly", "mask", "by keyword only"),
        ("lazy", "without values: 0.weight is lazy", "once with an example"),
        ("meta", "without values: body.weight is on the meta device", "on the CPU"),
        ("program", "has no evaluation mode", "the network's own code"),
        ("with_classes", "classes", "--model-arg"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(
    tmp_path: Path, factory: str, message: str, hint: str
) -> None:
    with pytest.raises(LatbenchError, match=message) as caught:
        built(tmp_path, factory)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("factory", ["scripted", "traced", "Part"])
def test_torchscript_is_refused_with_what_to_do(tmp_path: Path, factory: str) -> None:
    with pytest.raises(StageError, match="TorchScript in it") as caught:
        built(tmp_path, factory)
    assert caught.value.hint is not None
    assert "without torch.jit.script" in caught.value.hint
