"""Plug-ins that cannot be loaded cost themselves alone, and are told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import onnx_files
from support.command_line import QUICK, Ended, Latbench
from support.environment import python_path


@pytest.fixture
def with_broken(latbench: Latbench, tmp_path: Path) -> Callable[..., Ended]:
    """latbench beside a package whose exporter cannot be imported and whose runner raises."""
    site = tmp_path / "site"
    metadata = site / "broken-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[latbench.exporters]\nbroken = not_there_at_all:exporter\n"
        "[latbench.runners]\nbroken = broken_runner:runner\n"
    )
    (site / "broken_runner.py").write_text("def runner(): raise ValueError('it is\\nbroken')\n")
    path = python_path(site)
    return lambda *arguments: latbench(*arguments, PYTHONPATH=path)


def test_they_are_listed_with_the_reason(with_broken: Callable[..., Ended]) -> None:
    listed = with_broken("backends")
    assert listed.status == 0, listed.err
    assert "broken_runner:runner: ValueError: it is" in listed.out
    assert "not_there_at_all:exporter: ModuleNotFoundError" in listed.out
    assert "onnxruntime" in listed.out
    found = {row["name"]: row for row in with_broken("backends", "--json").json}
    assert found["broken"]["capability"]["available"] is False
    assert "ValueError" in found["broken"]["capability"]["reason"]
    assert found["onnxruntime"]["exporters"][0]["broken"] is None
    named = with_broken("backends", "broken")
    assert named.status == 2
    assert "cannot be loaded" in named.err


def test_a_ready_file_is_measured_beside_them(
    with_broken: Callable[..., Ended], tmp_path: Path
) -> None:
    file = onnx_files.classifier(tmp_path / "c.onnx")
    ran = with_broken("run", "--model", file, "--threads", "1", *QUICK)
    assert ran.status == 0, ran.err + ran.out
    other = with_broken("run", "--model", file, "--backend", "fake", *QUICK)
    assert other.status == 2
    assert "another backend does: " in other.err
    assert "cannot be loaded: broken" in other.err
