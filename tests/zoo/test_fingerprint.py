"""What identifies an architecture: its own source, not the harness."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from latbench.zoo import catalog, fingerprint
from latbench.zoo.fingerprint import architecture_digest, find_module
from support.environment import GOLDEN

ARCHITECTURES = GOLDEN / "architectures.json"
"""Digests with the versions of installed packages left out. Records hold such digests: a change is
a change of identity of all records of that network."""


def module_of(entry: catalog.ZooModel) -> tuple[str, Path]:
    name = entry.factory.partition(":")[0]
    path = find_module(name, sys.path)
    assert path is not None
    return name, path


@pytest.mark.skipif(find_spec("torch") is None, reason="networks import torch")
def test_the_digests_of_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_version", lambda distribution: b"any")
    found = {}
    for entry in catalog.ZOO:
        name, path = module_of(entry)
        found[entry.name] = architecture_digest(path, name, sys.path)
    assert found == json.loads(ARCHITECTURES.read_text())


def test_no_network_depends_on_the_harness() -> None:
    for entry in catalog.ZOO:
        name, path = module_of(entry)
        parts = set(fingerprint._reachable(path, name, sys.path))
        networks = {part for part in parts if part.startswith("latbench.zoo.nets.")}
        assert name in networks
        assert parts - networks <= {"torch", "numpy", "timm", "torchvision"}, entry.name


def test_an_installed_network_is_known_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same digest in a checkout and in a wheel."""
    monkeypatch.setattr(fingerprint, "_version", lambda distribution: b"any")
    name, path = module_of(catalog.find("mobilevigv2_ti"))
    here = architecture_digest(path, name, sys.path)
    site = tmp_path / "site-packages"
    nets = site / "latbench" / "zoo" / "nets"
    nets.mkdir(parents=True)
    for folder in (site / "latbench", site / "latbench" / "zoo"):
        (folder / "__init__.py").write_text("import nothing_of_this_name\n")
    for source in path.parent.glob("*.py"):
        (nets / source.name).write_bytes(source.read_bytes())
    search = [str(site), *sys.path]
    assert architecture_digest(nets / path.name, name, search) == here


def test_a_users_module_does_not_depend_on_the_harness(tmp_path: Path) -> None:
    """But on the networks that it imports."""
    own = tmp_path / "own.py"
    own.write_text(
        "import latbench.api\n"
        "from latbench.errors import suggest\n"
        "from latbench.zoo.nets import mobilevig\n"
    )
    parts = set(fingerprint._reachable(own, "own", [str(tmp_path), *sys.path]))
    assert {part for part in parts if part.startswith("latbench")} == {
        "latbench.zoo.nets.mobilevig"
    }
