"""The import contracts of pyproject.toml hold, and each of them fails on the import it forbids."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("src/latbench", "exporters/latbench_exporters", "runners/latbench_runners")
CONFIG = "pyproject.toml"

pytest.importorskip("importlinter", reason="the contracts need the `dev` extra")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, in which a test plants an import."""
    for source in SOURCES:
        shutil.copytree(
            ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / CONFIG, tmp_path / CONFIG)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """``lint-imports`` on the sources below ``tree``, not on the installed ones."""
    paths = [str(tree / Path(source).parent) for source in SOURCES]
    code = (
        "import sys\n"
        f"sys.path[:0] = {paths!r}\n"
        "from importlinter.cli import lint_imports_command\n"
        "lint_imports_command(['--no-cache', '--config', 'pyproject.toml'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**environment, "COLUMNS": "1000", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def plant(path: Path, line: str) -> None:
    """Add ``line`` below the module's last line, where an import is as good as at the top."""
    path.parent.mkdir(exist_ok=True)
    if path.parent.name != "latbench" and not (path.parent / "__init__.py").exists():
        (path.parent / "__init__.py").write_text('"""A package without a layer."""\n')
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{line}\n")


def test_the_contracts_are_kept(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        pytest.param(
            "exporters/latbench_exporters/fake.py",
            "from latbench.bundle.archive import read_bundle",
            "Backends import only",
            id="a backend imports the harness",
        ),
        pytest.param(
            "runners/latbench_runners/fake.py",
            "from latbench.errors import Stage",
            "Backends import only",
            id="a backend imports a module that api exports from",
        ),
        pytest.param(
            "runners/latbench_runners/fake.py",
            "from latbench import __version__",
            "Backends import only",
            id="a backend imports the package itself",
        ),
        pytest.param(
            "runners/latbench_runners/fake.py",
            "def late():\n    from latbench_exporters.fake import exporter",
            "Exporters and runners",
            id="a runner imports an exporter",
        ),
        pytest.param(
            "src/latbench/plugins.py",
            "import latbench_runners.fake",
            "Exporters and runners",
            id="the harness imports a backend",
        ),
        pytest.param(
            "src/latbench/foo/thing.py",
            "import json",
            "Each layer",
            id="a package has no layer",
        ),
        pytest.param(
            "src/latbench/loose.py", "import json", "Each layer", id="a module has no layer"
        ),
        pytest.param(
            "src/latbench/schema/trace.py",
            "from latbench.analysis.stats import median",
            "Each layer",
            id="a layer imports one above it",
        ),
        pytest.param(
            "src/latbench/store/rows.py",
            "from latbench.zoo.catalog import load",
            "Each layer",
            id="a layer imports its neighbor",
        ),
        pytest.param(
            "src/latbench/analysis/stats.py",
            "import os",
            "Pure packages",
            id="a pure package reaches the system",
        ),
        pytest.param(
            "src/latbench/claims/model.py",
            "from latbench.files import content_sha256",
            "Pure packages",
            id="a pure package reaches the system by way of another module",
        ),
        pytest.param(
            "src/latbench/schema/value.py",
            "from latbench.schema.record import Record",
            "No circle",
            id="two modules import each other",
        ),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    tree: Path, file: str, line: str, broken: str
) -> None:
    plant(tree / file, line)
    done = lint(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    failed += [line for line in done.stdout.splitlines() if " BROKEN (" in line]
    assert [line for line in failed if line.startswith(broken)], done.stdout


def test_backends_import_nothing_else_for_their_types() -> None:
    """import-linter leaves out what stands below ``if TYPE_CHECKING``; backends have no use for
    that with latbench."""
    allowed = ("latbench.api.", "latbench.clock.", "latbench.schema.")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for source in SOURCES[1:]
        for path in sorted((ROOT / source).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if name.split(".")[0] == "latbench" and not f"{name}.".startswith(allowed)
    ]
    assert not found


def imported(node: ast.AST) -> list[str]:
    """The full names of the modules or names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []
