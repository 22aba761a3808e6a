"""Which files a user's code reads: the identity of a model does not know of them.

What is opened through Python is seen, by an audit hook; what native code opens is not.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CODE = (".py", ".pyc", ".pyi", ".so", ".dylib", ".dll")
"""Python's own files are part of the identity, as far as they are imported."""
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/opt", "/System", "/Library")

_read: dict[str, None] = {}
_noticing = False
_hooked = False


@contextmanager
def record_file_reads() -> Iterator[None]:
    """Remember what is opened for reading in this block, in whichever thread."""
    global _noticing, _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _noticing = True
    try:
        yield
    finally:
        _noticing = False


def files_read(project: Path) -> tuple[str, ...]:
    """Paths of those files, sorted: all that lie in ``project``; elsewhere not those of installed
    packages and of the system; no temporary ones."""
    return tuple(sorted(path for path in _read if _is_the_users(Path(path), project.resolve())))


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _noticing or event != "open":
        return
    path, _, flags = arguments
    reads = isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR)
    if reads and isinstance(path, str | bytes | os.PathLike):
        _read[os.path.realpath(os.fsdecode(path))] = None


def _is_the_users(path: Path, project: Path) -> bool:
    temporary = Path(tempfile.gettempdir()).resolve()
    if path.suffix in CODE or path.is_relative_to(temporary):
        return False
    known = (sys.prefix, sys.base_prefix, *SYSTEM, *_site_folders())
    if not path.is_relative_to(project) and any(path.is_relative_to(root) for root in known):
        return False
    with suppress(OSError):
        return stat.S_ISREG(path.stat().st_mode)
    return False


def _site_folders() -> tuple[str, ...]:
    return tuple(each for each in sys.path if Path(each).name in ("site-packages", "dist-packages"))
