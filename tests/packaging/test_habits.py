"""The files that developers rely on: make targets and tested versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ELSEWHERE = {"native", "tensorrt", "tflite-runtime"}
"""Extras that `dev` does not contain, because they exclude others, come from another index, or are a
compiler of 400 MB."""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target() -> None:
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  ([a-z-]+) +\S", done.stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert sorted(listed) == sorted(phony[1].split())


def test_folders_that_fast_leaves_out_exist() -> None:
    found = re.search(r"^FAST := .*--ignore=tests/,([a-z_ ]+)\)$", MAKEFILE, re.MULTILINE)
    assert found is not None
    assert [name for name in found[1].split() if not (ROOT / "tests" / name).is_dir()] == []


def test_every_direct_dependency_has_a_tested_version_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert lines == sorted(lines, key=str.lower)
    tested = {canonicalize_name(n): v for n, _, v in (line.partition("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [text for name, group in extras.items() if name not in ELSEWHERE for text in group]
    for text in [*project["dependencies"], *texts]:
        requirement = Requirement(text)
        if requirement.name != "latbench":
            version = tested[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), text
