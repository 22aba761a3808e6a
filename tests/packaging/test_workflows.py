"""The workflows and issue forms in ``.github``: pinned, with few permissions, valid."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).parent.parent.parent / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(p for p in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config")
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
WRITERS = {("docs.yml", "deploy"), ("release.yml", "build"), ("release.yml", "publish")}
"""The jobs that may do more than read the repository."""

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job["steps"]


def test_there_is_a_workflow_for_every_purpose() -> None:
    assert {path.stem for path in WORKFLOWS} == {"tests", "lint", "docs", "release", "apple"}
    assert {path.stem for path in FORMS} == {"bug", "feature", "wrong-number", "device-or-model"}


@each_workflow
def test_actions_are_pinned_by_commit_with_a_version_comment(path: Path) -> None:
    lines = [line.strip(" -") for line in path.read_text(encoding="utf-8").splitlines()]
    unpinned = [x for x in lines if x.startswith("uses:") and not PINNED.match(x)]
    assert unpinned == []


def test_an_action_has_one_version_in_all_workflows() -> None:
    uses = {s["uses"] for path in WORKFLOWS for s in steps(path) if "uses" in s}
    assert len({use.partition("@")[0] for use in uses}) == len(uses)


@each_workflow
def test_permissions_are_granted_per_job_and_are_few(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {}
    for name, job in jobs(path).items():
        writes = [scope for scope, level in job["permissions"].items() if level == "write"]
        assert not writes or (path.name, name) in WRITERS, name


@each_workflow
def test_no_job_keeps_credentials_or_runs_forever(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    assert all("timeout-minutes" in job for job in jobs(path).values())


def test_releases_store_no_password() -> None:
    text = (GITHUB / "workflows/release.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "password" not in text.replace("no password", "")


def test_zizmor_finds_nothing() -> None:
    zizmor = shutil.which("zizmor", path=str(Path(sys.executable).parent)) or shutil.which("zizmor")
    if zizmor is None:
        pytest.skip("zizmor is not installed (extra: test)")
    command = [zizmor, "--offline", "--no-progress", "--persona=pedantic", str(GITHUB)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE/config.yml"]),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_match_the_schema_of_their_kind(schema: str, paths: list[Path]) -> None:
    pytest.importorskip("check_jsonschema", reason="extra: test")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
