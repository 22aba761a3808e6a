"""Code that a claims file of others names is executed only on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import Latbench

CLAIMS = """
schema: 1
sources:
  - {{id: paper, title: A paper}}
models:
  - {{id: theirs, name: Theirs, build: "{build}"}}
claims:
  - id: size
    model: theirs
    says: {{kind: size, metric: parameters, figure: "1", unit: M}}
    source: {{id: paper, where: Table 1}}
    open: [counting]
    by: authors
"""
CODE = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from support.models import factory
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    (tmp_path / "evil.py").write_text(CODE)
    path = tmp_path / "theirs.yaml"
    path.write_text(CLAIMS.format(build="evil:factory"))
    return path


def test_code_of_others_is_not_executed(latbench: Latbench, theirs: Path) -> None:
    executed = theirs.with_name("executed")
    place = {"LATBENCH_CLAIMS": str(theirs)}
    latbench("show", **place)
    checked = latbench("claims", "check", "size", **place)
    assert checked.status == 4, checked
    assert "evil:factory, was not executed" in checked.out
    assert "--trust-code" in checked.out
    latbench("claims", "check", "size", "--measure", "--backend", "fake", **place)
    latbench("bundle", "create", "out.zip", "--claim", "size", **place)
    assert not executed.exists()
    trusted = latbench("claims", "check", "size", "--trust-code", **place)
    assert executed.exists()
    assert trusted.status == 1, trusted


def test_adding_claims_that_name_code_is_a_decision(
    latbench: Latbench, theirs: Path, tmp_path: Path
) -> None:
    place = {"LATBENCH_CLAIMS": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    refused = latbench("claims", "add", str(theirs), **place)
    assert refused.status == 2
    assert "names code, which `latbench claims check` would execute: evil:factory" in refused.err
    assert latbench("claims", "add", str(theirs), "--trust-code", **place).status == 0
    assert latbench("claims", "check", "size", **place).status == 1
    assert theirs.with_name("executed").exists()
