"""Parse requests written as text: ``[MODEL][,KEY=VALUE]...``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from latbench.defaults import LOCAL
from latbench.errors import UsageError
from latbench.file_names import restored_name
from latbench.schema.input_content import read_input, read_shape
from latbench.schema.request import Request, make_request

SIDE_KEYS = (
    "model",
    "backend",
    "threads",
    "batch",
    "resolution",
    "precision",
    "weights",
    "weights_key",
    "seed",
    "calibration",
    "signature",
    "require",
    "cpus",
)
MANY = {"shape": "shapes", "input": "inputs", "dim": "dims", "arg": "arguments"}
"""Keys that a side may repeat, and the fields that they add to."""


DEFAULTS: Mapping[str, Any] = {
    "backend": "",
    "device": LOCAL,
    "weights": None,
    "weights_key": None,
    "batch": None,
    "resolution": None,
    "precision": "fp32",
    "threads": None,
    "seed": 0,
    "dims": None,
    "calibration": None,
    "shapes": (),
    "inputs": (),
    "signature": None,
    "tolerance": None,
    "arguments": None,
    "imports": (),
    "nondeterministic": False,
    "require": (),
    "cpus": None,
}


def side_request(side: str, **common: Any) -> Request:
    """Parse one side of a comparison: ``[MODEL][,KEY=VALUE]...`` on top of the common settings.

    A key that is not in :data:`SIDE_KEYS` is an option of the backend. A comma in a name is written
    as ``\\,``.
    """
    fields = {**DEFAULTS, **common}
    fields["options"] = dict(common.get("options") or {})
    own: dict[str, list[str]] = {key: [] for key in MANY}
    for i, part in enumerate(_parts(side)):
        key, equals, value = part.partition("=")
        if not equals and i == 0 and part:
            fields["model"] = part
        elif not equals or not key or not value:
            raise UsageError(
                f"{side!r}: {part!r} is not KEY=VALUE",
                hint="a side is [MODEL][,KEY=VALUE]..., such as mobilevig_ti,threads=2; a comma in "
                "a name is written as \\,",
            )
        elif key in ("threads", "batch", "seed"):
            if not value.isdecimal():
                raise UsageError(f"{side!r}: {key} must be an integer, not {value!r}")
            fields[key] = int(value)
        elif key in MANY:
            own[key].append(value)
        elif key == "tolerance":
            fields[key] = read_number(key, value)
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
    for key, field in MANY.items():
        fields[field] = _with_own(fields[field], own[key], key)
    return make_request(model, **fields)


def side_word(model: str) -> str:
    """Return the side of a comparison that is the model of a request and nothing else."""
    name = restored_name(model).replace(",", "\\,")
    return f"model={name}" if name.startswith("-") or "=" in name else name


def _parts(side: str) -> list[str]:
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", side)]


def _with_own(common: Any, own: Sequence[str], key: str) -> Any:
    """The common sizes or contents, replaced for the inputs that a side names itself."""
    if key == "dim":
        return {**(common or {}), **dict(read_dim(text) for text in own)}
    if key == "arg":
        return {**(common or {}), **dict(read_argument(text) for text in own)}
    if isinstance(common, Mapping):
        raise TypeError(f"{key}: texts expected for the sides of a comparison")
    read = read_shape if key == "shape" else read_input
    named = {read(text)[0] for text in own}
    return (*(text for text in common if read(text)[0] not in named), *own)


def read_dim(text: str) -> tuple[str, int]:
    """Parse the size of a named axis from ``seq=128``. Raise :class:`UsageError`."""
    name, equals, size = text.partition("=")
    if not equals or not name or not size.isdecimal():
        raise UsageError(f"{text!r} is not NAME=SIZE")
    return name, int(size)


def read_argument(text: str) -> tuple[str, str]:
    """Parse an argument of a factory from ``depth=2``. Raise :class:`UsageError`."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"{text!r} is not NAME=VALUE with the name of a parameter")
    return name, value


def read_number(key: str, text: str) -> float:
    """Parse a number. Raise :class:`UsageError`."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{key} must be a number, not {text!r}") from None


def read_resolution(text: str) -> tuple[int, int]:
    """Parse height and width from ``224`` or ``480x640``. Raise :class:`UsageError`."""
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise UsageError(f"{text!r} is not a size such as 224 or 480x640 (height x width)")


def option_words(request: Request, *, brief: bool = False) -> list[str]:
    """Return the options of a command that requests the same.

    What no option can say, such as fewer calls of a protocol, is left out; ``brief`` leaves out the
    protocol, and values that are the default.
    """
    size = "x".join(map(str, request.resolution)) if request.resolution else None
    options = (
        *(("--backend", request.backend), ("--weights", _name(request.weights))),
        *(("--batch", request.batch), ("--resolution", size)),
        ("--precision", None if brief and request.precision == "fp32" else request.precision),
        *(("--threads", request.threads), ("--cpus", request.cpus)),
        ("--seed", None if brief and not request.seed else request.seed),
        ("--protocol", None if brief else request.protocol),
        ("--calibration", _name(request.calibration)),
        *(("--option", f"{name}={value}") for name, value in request.options.items()),
        *(("--dim", f"{name}={value}") for name, value in request.dims.items()),
        *(("--shape", _shape_text(request, name)) for name in request.shapes),
        *(("--input", _input_text(request, name)) for name in request.inputs),
        *(("--model-arg", f"{name}={value}") for name, value in request.arguments.items()),
        *(("--import", package) for package in request.imports),
        *(("--signature", request.signature), ("--tolerance", request.tolerance)),
        ("--require", ",".join(request.require) or None),
    )
    words = [word for name, value in options if value is not None for word in (name, str(value))]
    return [*words, *(["--allow-nondeterministic"] if request.nondeterministic else [])]


def _name(stored: str | None) -> str | None:
    return None if stored is None else restored_name(stored)


def _input_text(request: Request, name: str) -> str:
    return _named(name, restored_name(request.inputs[name]))


def _shape_text(request: Request, name: str) -> str:
    sizes = "x".join(map(str, request.shapes[name]))
    return _named(name, sizes + (f":{request.dtypes[name]}" if name in request.dtypes else ""))


def _named(name: str, value: str) -> str:
    return f"{name}={value}" if name else value
