"""The commit of the working directory, which may be in a repository of somebody else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from latbench.host.commit import commit


def git(*arguments: str, folder: Path, check: bool = True) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], check=check, capture_output=True, text=True, cwd=folder
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "below").mkdir(parents=True)
    git("init", "-b", "main", folder=folder)
    (folder / "a.txt").write_text("1\n")
    (folder / "below" / "b.bin").write_bytes(bytes(256))
    git("add", ".", folder=folder)
    git("commit", "-m", "x", folder=folder)
    return folder


def head(folder: Path) -> str:
    return git("rev-parse", "HEAD", folder=folder)


def test_a_clean_and_a_changed_repository(repository: Path) -> None:
    assert commit(repository / "below") == head(repository)
    (repository / "untracked").write_text("1")
    assert commit(repository) == head(repository)
    (repository / "a.txt").write_text("2\n")
    assert commit(repository / "below") == f"{head(repository)}+dirty"
    git("add", ".", folder=repository)
    assert commit(repository) == f"{head(repository)}+dirty"
    git("commit", "-m", "y", folder=repository)
    assert commit(repository) == head(repository)
    os.utime(repository / "a.txt", (1, 1))
    assert commit(repository) == head(repository)


@pytest.mark.parametrize("refs", ["loose", "packed", "detached"])
def test_however_the_head_is_kept(repository: Path, refs: str) -> None:
    if refs == "packed":
        git("pack-refs", "--all", folder=repository)
    elif refs == "detached":
        git("checkout", "--detach", folder=repository)
    assert commit(repository) == head(repository)


def test_a_linked_working_tree(repository: Path, tmp_path: Path) -> None:
    git("worktree", "add", str(tmp_path / "linked"), folder=repository)
    (repository / "a.txt").write_text("2\n")
    git("commit", "-am", "y", folder=repository)
    assert commit(tmp_path / "linked") == head(tmp_path / "linked") != head(repository)


def test_nothing_that_a_repository_names_is_executed(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho $0 $* >> {ran}\ncat\n")
    evil.chmod(0o755)
    for name in (
        *("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass"),
        *("core.alternateRefsCommand", "diff.external", "pager.status", "status.pager"),
        *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv"),
        *("gpg.program", "credential.helper", "alias.status", "uploadpack.packObjectsHook"),
    ):
        git("config", name, str(evil), folder=repository)
    git("config", "filter.evil.required", "true", folder=repository)
    git("config", "core.hooksPath", str(tmp_path / "hooks"), folder=repository)
    (repository / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    (repository / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (tmp_path / "hooks").mkdir()
    for place in (tmp_path / "hooks", repository / ".git" / "hooks"):
        for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
            (place / hook).write_bytes(evil.read_bytes())
            (place / hook).chmod(0o755)
    named = (repository / ".git" / "refs" / "heads" / "main").read_text().strip()
    os.utime(repository / "a.txt", (1, 1))
    assert commit(repository) == named
    (repository / "a.txt").write_text("2\n")
    assert commit(repository) == f"{named}+dirty"
    assert not ran.exists(), ran.read_text()
    # The trap works: git itself falls into it.
    git("status", folder=repository, check=False)
    assert ran.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".git/HEAD", b""),
        (".git/HEAD", b"ref: refs/heads/../../../etc/passwd"),
        (".git/HEAD", b"\xff\xfe"),
        (".git/HEAD", b"0" * 40),
        (".git/index", b"DIRC\0\0\0\2\xff\xff\xff\xff"),
        (".git/refs/heads/main", b"no commit"),
    ],
)
def test_a_damaged_repository_has_no_commit(repository: Path, file: str, content: bytes) -> None:
    (repository / file).write_bytes(content)
    assert commit(repository) is None


def test_no_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert commit(tmp_path) is None
