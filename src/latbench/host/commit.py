"""The commit of the working directory, without executing anything that a repository names.

The configuration of a repository can name programs: monitors, hooks, filters, transports. The
commit is therefore read from files, and git compares the working tree with it in a repository of
its own, which has that index and those objects and an empty configuration.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

TIMEOUT_S = 5
COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
REF = re.compile("ref: (refs/[^\0]+)")
OF_A_REPOSITORY = (
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
)
LONGEST_FILE_BYTES = 64 * 2**20


def commit(folder: Path) -> str | None:
    """The commit that ``folder`` is at, with ``+dirty`` if a file that git knows has changed.

    ``None`` outside of a repository, without git, and if the commit cannot be determined.
    """
    found = _repository(folder)
    if found is None:
        return None
    work_tree, own = found
    common = own / (_text(own / "commondir") or ".")
    named = _head(own, common)
    if named is None:
        return None
    changed = _changed(work_tree, own / "index", common / "objects", named)
    return None if changed is None else f"{named}+dirty" if changed else named


def _repository(folder: Path) -> tuple[Path, Path] | None:
    """The working tree around ``folder``, and the repository's folder."""
    try:
        folder = folder.resolve()
        for parent in (folder, *folder.parents):
            place = parent / ".git"
            if place.is_dir():
                return parent, place
            if place.is_file():  # a linked working tree, or a submodule
                link = re.fullmatch("gitdir: (.+)", _text(place) or "")
                return (parent, parent / link[1]) if link else None
    except (OSError, RuntimeError, ValueError):
        pass
    return None


def _head(own: Path, common: Path) -> str | None:
    head = _text(own / "HEAD") or ""
    ref = REF.fullmatch(head)
    if ref is None:
        return head if COMMIT.fullmatch(head) else None
    name = ref[1]
    if ".." in name.split("/"):
        return None
    for place in (own / name, common / name):
        if COMMIT.fullmatch(loose := _text(place) or ""):
            return loose
    packed = _text(common / "packed-refs") or ""
    found = (line.split(" ", 1) for line in packed.splitlines() if not line.startswith(("#", "^")))
    return next(
        (each[0] for each in found if each[1:] == [name] and COMMIT.fullmatch(each[0])), None
    )


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def _changed(work_tree: Path, index: Path, objects: Path, named: str) -> bool | None:
    """Whether a file differs from the commit; untracked files are not part of what was measured."""
    try:
        with tempfile.TemporaryDirectory(prefix="latbench-git-") as place:
            own = Path(place)
            for folder in ("refs", "objects"):
                (own / folder).mkdir()
            (own / "HEAD").write_text(f"{named}\n")
            (own / "config").write_text(_config(named))
            command = (
                *("git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"),
                *("--no-pager", "--no-optional-locks", "status", "--porcelain"),
                # What changed inside a submodule would be asked of a program started there.
                *("--untracked-files=no", "--ignore-submodules=dirty"),
            )
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
                cwd=work_tree,
                env={
                    **{
                        name: value
                        for name, value in os.environ.items()
                        if name not in OF_A_REPOSITORY
                    },
                    "GIT_DIR": str(own),
                    "GIT_WORK_TREE": str(work_tree),
                    "GIT_INDEX_FILE": str(index),
                    "GIT_OBJECT_DIRECTORY": str(objects),
                    "GIT_NO_LAZY_FETCH": "1",
                    "GIT_TERMINAL_PROMPT": "0",
                },
            )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip()) if done.returncode == 0 else None


def _config(named: str) -> str:
    if len(named) == 40:
        return "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"
    return (
        "[core]\n\trepositoryformatversion = 1\n\tbare = false\n"
        "[extensions]\n\tobjectformat = sha256\n"
    )
