"""``--option form=trained``: a network as it is trained, branches and BatchNorms and all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from support.command_line import QUICK, Latbench

NET = '''\
"""A block with a branch that is fused for deployment."""
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.skip = nn.Conv2d(width, width, 1, bias=False)
        self.fused = False

    def forward(self, x):
        y = self.conv(x)
        return torch.relu(self.norm(y if self.fused else y + self.skip(x)))

    def reparameterize(self):
        with torch.no_grad():
            self.conv.weight[:, :, 1:2, 1:2] += self.skip.weight
        self.fused = True
        del self.skip


def net():
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    model = nn.Sequential(stem, Block(16), Block(16), head)
    model.input_shape = (3, 32, 32)
    return model
'''

pytestmark = pytest.mark.torch


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "branched.py").write_text(NET)
    return "branched.py:net"


@pytest.mark.parametrize("route", ["torch.export", "torchscript"])
def test_the_onnx_file_is_of_that_form(
    latbench: Latbench, tmp_path: Path, model: str, route: str
) -> None:
    import onnx

    found = {}
    for form in ("deploy", "trained"):
        done = latbench(
            *("export", "--model", model, "--output", f"{form}.onnx", "--json"),
            *("--option", f"form={form}", "--option", f"route={route}"),
        )
        assert done.status == 0, done
        artifact = done.json["artifact"]
        assert artifact["details"]["form"] == form
        # Parity and counts are of the form that was exported.
        assert artifact["counts"]["macs"] == artifact["model_counts"]["macs"]
        assert artifact["parity"]["max_rel_error"] < 1e-4
        found[form] = artifact
        nodes = Counter(node.op_type for node in onnx.load(tmp_path / f"{form}.onnx").graph.node)
        assert nodes["BatchNormalization"] == (3 if form == "trained" else 0)
        assert nodes["Conv"] == (5 if form == "trained" else 3)
    assert found["deploy"]["sha256"] != found["trained"]["sha256"]
    assert found["deploy"]["trained_parameters"] == found["trained"]["trained_parameters"]


def test_it_is_measured_and_explained(latbench: Latbench, model: str) -> None:
    ids = {}
    for form in ("deploy", "trained"):
        done = latbench("run", "--model", model, *QUICK, "--json", "--option", f"form={form}")
        assert done.status == 0, done
        record = done.json["record"]
        assert record["request"]["options"] == {"form": form}
        ids[form] = record["id"]
    done = latbench("run", "--model", model, *QUICK, "--json")
    assert done.json["record"]["artifact"]["details"]["form"] == "deploy"
    pair = (ids["trained"], "--against", done.json["record"]["id"])
    explained = latbench("claims", "explain", *pair, "--rounds", "1", "--json")
    (part,) = explained.json["parts"]
    assert (part["factor"], part["a"], part["b"]) == ("model form", "trained", "deploy")
    assert part["how"] == "measured"


def test_unknown_forms_and_backends_without(latbench: Latbench, model: str) -> None:
    done = latbench("run", "--model", model, *QUICK, "--option", "form=raw")
    assert done.status == 2
    assert "form cannot be 'raw'" in done.err
    done = latbench("run", "--model", model, "--backend", "executorch", "--option", "form=trained")
    assert done.status == 2
    assert "no option 'form'" in done.err
    assert latbench("export", "--model", model, "--output", "ready.onnx").status == 0
    done = latbench("run", "--model", "ready.onnx", *QUICK, "--option", "form=trained")
    assert done.status == 2
    assert "option form is invalid for a pre-exported file" in done.err


def test_either_form_is_verified(latbench: Latbench, model: str) -> None:
    for form in ("deploy", "trained"):
        option = ("--option", f"form={form}", "--output", f"{form}.onnx")
        assert latbench("export", "--model", model, *option).status == 0
        verify = ("verify", f"{form}.onnx", "--model", model)
        done = latbench(*verify, "--json")
        assert done.status == 0, done
        assert done.json["against"]["form"] == form
        assert ("(trained form)" in latbench(*verify).out) == (form == "trained")
        other = latbench(*verify, "--seed", "1", "--json")
        assert other.status == 1
        assert other.json["against"]["form"] == form
