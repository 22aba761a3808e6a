"""The ONNX sentinel: other bytes are another workload and need another name."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from latbench_exporters.onnx.exporter import exporter

SHA256 = {
    "inverted-residuals-224@1": "62fc9fd90349c0c1505c7e8245a6e56736edf980b2789c26f6c9c40970b79897"
}


def test_its_bytes_are_those_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "sentinel.onnx"
    exported = exporter().export_sentinel(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[exporter().sentinel]
    assert exported.counts is not None
    # MobileNetV2 has 300.8 million MACs and 3.5 million parameters, BatchNorm's left out.
    assert exported.counts.macs == 300_774_272
    assert 3_400_000 < exported.counts.parameters < 3_500_000


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.modules['torch'] = None;"
        "from latbench_exporters.onnx.exporter import exporter;"
        f"exporter().export_sentinel(Path({str(tmp_path / 's.onnx')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
