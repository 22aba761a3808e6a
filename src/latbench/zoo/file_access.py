"""Record the files that a user's model reads, because its identity does not cover them.

An audit hook sees what is opened through Python, not what native code opens.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

CODE = (".py", ".pyc", ".pyi", ".so", ".dylib", ".dll")
"""Files of imported modules, which are part of the identity."""
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/opt", "/System", "/Library")


class FileReads:
    """The files that were opened for reading within :meth:`recording`, in any thread."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is opened for reading in this block."""
        recorders = _open_hook().recorders
        recorders.append(self)
        try:
            yield
        finally:
            recorders.remove(self)

    def add(self, path: str | bytes | os.PathLike[str]) -> None:
        """Add one file."""
        self._paths.add(os.path.realpath(os.fsdecode(path)))

    def of_project(self, project: Path) -> tuple[str, ...]:
        """Sorted paths of the user's files: all files in ``project``; elsewhere, those that belong
        neither to the system nor to an installed package. Temporary files are left out."""
        root = project.resolve()
        return tuple(sorted(path for path in self._paths if _is_the_users(Path(path), root)))


class _OpenHook:
    """Passes on the paths of ``open`` events while something records."""

    def __init__(self) -> None:
        self.recorders: list[FileReads] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not self.recorders:
            return
        path, _, flags = arguments
        reads = isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR)
        if reads and isinstance(path, str | bytes | os.PathLike):
            for recorder in self.recorders:
                recorder.add(path)


@cache
def _open_hook() -> _OpenHook:
    """The one hook of this process, installed on first use.

    An audit hook cannot be removed and is called for every event from then on. So there is only
    one, and without a recorder it does nothing but compare the event's name.
    """
    hook = _OpenHook()
    sys.addaudithook(hook)
    return hook


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
