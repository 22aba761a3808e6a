"""Check that a ``.pt2`` file can be loaded without executing code from it.

``torch.export.load`` unpickles marked parts, loads compiled libraries, evaluates symbolic shapes as
Python, and calls any function of PyTorch that a node names. Files of the exporter contain no
pickles, no symbols, and no calls except of operators.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from latbench.api import StageError

PLAIN = ("models/model.json", "archive_format", "archive_version", "byteorder")
PLAIN_FOLDERS = ("data/weights/", "data/constants/", ".data/")
TENSORS = ("weight_", "tensor_")
"""Name prefix of raw tensors; other members are objects, which are unpickled."""
SYMBOLIC = ("expr_str", "as_expr")
OPERATOR = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.getitem")


def refuse_code(path: Path) -> None:
    """Raise :class:`StageError` if loading ``path`` could execute code, or it is not a .pt2
    file."""
    strange: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename.lower() for info in archive.infolist()]
            # PyTorch ignores case when it looks up members.
            strange += {name for name in names if names.count(name) > 1}
            for info in archive.infolist():
                name = info.filename.lower().partition("/")[2]
                if name.endswith("config.json"):
                    entries = _json(archive.read(info), strange)["config"].values()
                    strange += [e["path_name"] for e in entries if not _raw(e)]
                elif name == "models/model.json":
                    graph = _json(archive.read(info), strange)
                    strange += [k for k in ("guards_code", "range_constraints") if graph.get(k)]
                elif name.endswith(".pt"):
                    strange += [name] if info.file_size else []
                elif name not in PLAIN and not name.startswith(PLAIN_FOLDERS):
                    strange.append(name)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(
            "open",
            f"{path.name} is not a valid .pt2 file: {error}",
            hint="truncated or corrupt: export it again",
        ) from error
    if strange:
        raise StageError(
            "open",
            f"{path.name} has parts that could execute code when loaded: {', '.join(strange[:5])}",
            hint="only files exported by latbench are loaded",
        )


def _raw(entry: dict[str, Any]) -> bool:
    return not entry["use_pickle"] and entry["path_name"].startswith(TENSORS)


def _json(content: bytes, strange: list[str]) -> Any:
    """Parse JSON; append symbols, and calls of anything but operators, to ``strange``."""

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        strange.extend(key for key, _ in pairs if key in SYMBOLIC)
        if "target" in found and "inputs" in found:
            targets = [str(value) for key, value in pairs if key == "target"]
            strange.extend(target for target in targets if not OPERATOR.fullmatch(target))
        return found

    return json.loads(content, object_pairs_hook=look)
