"""Write the installed versions as pip constraints: ``python .ci/lock.py constraints.txt``.

One ``name==version`` line per package that latbench's ``dev`` extra needs here, in alphabetical
order. Local version labels (``+cpu``) are dropped, so that the file fits every build of a release.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def canonical(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(root: str, extras: frozenset[str]) -> dict[str, Distribution]:
    """Every installed package that ``root[extras]`` requires in this environment."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    open_: list[tuple[str, frozenset[str]]] = [(canonical(root), extras)]
    while open_:
        name, wanted = open_.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is required but not installed; run: make test") from None
        found[name] = package
        for line in package.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in (wanted or {""})):
                open_.append((canonical(requirement.name), frozenset(requirement.extras)))
    return found


def main(path: Path) -> None:
    """Write the constraints to ``path``."""
    packages = closure("latbench", frozenset({"dev"}))
    del packages["latbench"]
    lines = sorted(
        (f"{p.metadata['Name']}=={p.version.partition('+')[0]}" for p in packages.values()),
        key=str.lower,
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
