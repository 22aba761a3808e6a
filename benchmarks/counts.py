"""MACs that latbench counts, compared with those of two other counters.

    python benchmarks/counts.py [--smoke]

It needs fvcore (Meta; counts PyTorch operators while tracing) and onnx_tool (counts ONNX nodes),
which latbench does not install: ``pip install fvcore onnx_tool``. Without them it says so and ends.

Both others count products of two activations too, so those are compared with the sum of what
latbench counts and of these products, which its analysis of scaling counts.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch
from torch import nn

from latbench.zoo.builder import build
from latbench.zoo.macs import count
from latbench.zoo.resolver import resolve
from latbench.zoo.scaling import all_macs
from latbench_exporters.onnx.counts import count as count_file
from latbench_exporters.onnx.graph import read

NEEDED = ("fvcore", "onnx_tool")
WORK = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")
TIMM = {
    "resnet18": 224,
    "mobilenetv3_small_100": 224,
    "efficientnet_b0": 224,
    "repvgg_a0": 224,
    "convnext_atto": 224,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "mobilevit_xxs": 256,
    "efficientformer_l1": 224,
    "mixer_s32_224": 224,
}


class Recognizer(nn.Module):
    """Convolution, recurrent layers of one kind and a classifier, as text recognizers have them."""

    def __init__(self, layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, 2, 1)
        self.layer = layer(256, 32, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 37)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.conv(x).permute(0, 3, 1, 2).flatten(2))[0])


class Decoder(nn.Module):
    """Transposed convolutions, also in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4, 2, 1), nn.ConvTranspose2d(16, 4, 2, 2, groups=2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Product(nn.Module):
    """An einsum with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 16, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhtc,hcd->bhtd", x, self.weight)


def networks(smoke: bool) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """Name -> how to build it, and the shape of its input."""
    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "LSTM recognizer": (lambda: Recognizer(nn.LSTM), (1, 1, 32, 100)),
        "GRU recognizer": (lambda: Recognizer(nn.GRU), (1, 1, 32, 100)),
        "transposed convolutions": (Decoder, (1, 8, 16, 16)),
        "einsum": (Product, (2, 3, 7, 16)),
    }
    if smoke:
        return dict(list(found.items())[2:3])
    for name, side in TIMM.items():
        found[name] = (lambda name=name: zoo(f"timm:{name}"), (1, 3, side, side))
    return found


def zoo(name: str) -> nn.Module:
    return build(resolve(name, weights=None, batch=None, resolution=None, seed=0)).module


def by_fvcore(module: nn.Module, image: torch.Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    found = analysis.by_operator()
    kinds = ("conv", "conv_transpose", "addmm", "linear", "matmul", "bmm", "einsum", "mm")
    return int(sum(number for kind, number in found.items() if kind in kinds))


def by_onnx_tool(path: Path) -> int | None:
    import onnx
    import onnx_tool

    try:
        graph = onnx_tool.Model(onnx.load(path), {"verbose": False}).graph
        graph.shape_infer(None)
        graph.profile()
    except Exception:  # noqa: BLE001 - it refuses many operators, in many ways
        return None
    return int(sum(n.macs[0] for n in graph.nodemap.values() if n.op_type in WORK))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"skipped: {' and '.join(missing)} not installed: pip install {' '.join(missing)}")
        return
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    print("| network | PyTorch | ONNX file | fvcore | onnx_tool | PyTorch, all products |")
    print("|---|---|---|---|---|---|")
    for name, (make, shape) in networks(arguments.smoke).items():
        torch.manual_seed(0)
        module, image = make().eval(), torch.randn(shape)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = Path(folder) / "net.onnx"
            torch.onnx.export(module, (image,), path, dynamo=False, opset_version=17)
            counts, _ = count_file(read(path))
            other = by_onnx_tool(path)
        row = (
            count(module, (image,)).macs,
            None if counts is None else counts.macs,
            by_fvcore(module, image),
            other,
            # The last, since the module loses its values.
            all_macs(module, (image,)),
        )
        shown = " | ".join("none" if number is None else f"{number:,}" for number in row)
        print(f"| {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
