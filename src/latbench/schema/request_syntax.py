"""Parse requests written as text: ``[MODEL][,KEY=VALUE]...``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latbench.defaults import LOCAL
from latbench.errors import UsageError
from latbench.schema.request import Request, make_request

SIDE_KEYS = (
    "model",
    "backend",
    "threads",
    "batch",
    "resolution",
    "precision",
    "weights",
    "seed",
    "calibration",
)


DEFAULTS: Mapping[str, Any] = {
    "backend": "",
    "device": LOCAL,
    "weights": None,
    "batch": None,
    "resolution": None,
    "precision": "fp32",
    "threads": None,
    "seed": 0,
    "dims": None,
    "calibration": None,
}


def side_request(side: str, **common: Any) -> Request:
    """Parse one side of a comparison: ``[MODEL][,KEY=VALUE]...`` on top of the common settings.

    A key that is not in :data:`SIDE_KEYS` is an option of the backend.
    """
    fields = {**DEFAULTS, **common}
    fields["options"] = dict(common.get("options") or {})
    for i, part in enumerate(side.split(",")):
        key, equals, value = part.partition("=")
        if not equals and i == 0 and part:
            fields["model"] = part
        elif not equals or not key or not value:
            raise UsageError(
                f"{side!r}: {part!r} is not KEY=VALUE",
                hint="a side is [MODEL][,KEY=VALUE]..., such as mobilevig_ti,threads=2",
            )
        elif key in ("threads", "batch", "seed"):
            if not value.isdecimal():
                raise UsageError(f"{side!r}: {key} must be an integer, not {value!r}")
            fields[key] = int(value)
        elif key == "resolution":
            fields[key] = read_resolution(value)
        elif key in SIDE_KEYS:
            fields[key] = value
        else:
            fields["options"][key] = value
    model = fields.pop("model", None)
    if not model:
        raise UsageError(
            f"{side!r} has no model",
            hint="add a model to each side, or set one for both with --model",
        )
    return make_request(model, **fields)


def read_resolution(text: str) -> tuple[int, int]:
    """Parse height and width from ``224`` or ``480x640``. Raise :class:`UsageError`."""
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise UsageError(f"{text!r} is not a size such as 224 or 480x640 (height x width)")
