"""The documentation's site: it builds strictly, so that no link is broken, and needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FETCHED = re.compile(
    r"<(?:script|img|iframe|link rel=.?stylesheet.?)\b[^>]*\b(?:src|href)=.?https?:"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings", reason="needs the `docs` extra")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_are_made_from_commands_docstrings_and_files_outside_of_docs(site: Path) -> None:
    for page, words in {
        "reference/cli": "latbench compare",
        "reference/python": "latbench.bench.compare.compare",
        "reference/python/analysis": "latbench.analysis.summary.summarize",
        "project/contributing": "Adding a backend",
        "project/truth": "",
    }.items():
        assert words in (site / page / "index.html").read_text(encoding="utf-8"), page


def test_pages_fetch_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
