"""Exporter of the fake backend: files that hold a latency derived from the model's name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    StageError,
    TensorSpec,
    make_inputs,
)

LATENCY_NS = (500_000, 20_000_000)
SENTINEL_NS = 1_000_000


class FakeExporter:
    """Write a latency without building the model, so that torch is not needed."""

    format = "fake"
    suffix = ".fake.json"
    reads: tuple[str, ...] = ()
    precisions = ("fp32",)
    options: Mapping[str, str] = {}
    sentinel = "fake-sentinel@1"

    def export_sentinel(self, out: Path) -> Exported:
        """Write a latency of one millisecond."""
        return _write(out, SENTINEL_NS, 1, 8, 8)

    def toolchain(self) -> Mapping[str, str]:
        return {"fake": "1"}

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Write ``{"latency_ns": N}``, where N depends only on the model's identity."""
        identity = model.identity
        name = f"{identity.name}/{identity.weights}/{spec.batch}/{spec.resolution}"
        low, high = LATENCY_NS
        draw = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        height, width = spec.resolution or (224, 224)
        return _write(out, low + draw % (high - low), spec.batch or 1, height, width)

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Always raise :class:`StageError`: this format has no pre-exported files."""
        raise StageError("export", "the fake backend does not accept pre-exported files")

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Seeded noise of the output shape in the file, the same as a session returns."""
        shape = tuple(json.loads(path.read_text())["outputs"])
        return make_inputs((TensorSpec(name="logits", shape=shape, dtype="float32"),), seed=0)


def exporter() -> Exporter:
    """Entry point."""
    return FakeExporter()


def _write(out: Path, latency_ns: int, batch: int, height: int, width: int) -> Exported:
    logits = TensorSpec(name="logits", shape=(batch, 1000), dtype="float32")
    out.write_text(json.dumps({"latency_ns": latency_ns, "outputs": logits.shape}))
    return Exported(
        inputs=(TensorSpec(name="image", shape=(batch, 3, height, width), dtype="float32"),),
        outputs=(logits,),
        counts=None,
        details={},
        from_module=False,
    )
