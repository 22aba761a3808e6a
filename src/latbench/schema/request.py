"""Define and validate measurement requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from latbench.errors import UsageError, suggest
from latbench.file_names import shown_name, stored_name
from latbench.schema.cpu_choice import read_cpus
from latbench.schema.input_content import read_content, read_input, read_shape
from latbench.schema.precision import PRECISIONS
from latbench.schema.value import Value

if TYPE_CHECKING:
    from pathlib import Path


def _none() -> None:
    """A default that is encoded even so."""


class Request(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A measurement request, as the user entered it.

    Names of files (of models, weights, inputs, and of the folder for calibration) are in the form
    of :func:`~latbench.file_names.stored_name`. Encoded without the fields that have their default,
    except the first fields.
    """

    model: str
    backend: str
    device: str
    weights: str | None
    batch: int | None
    resolution: tuple[int, int] | None
    precision: str
    threads: int | None
    seed: int
    options: dict[str, str]
    dims: dict[str, int]
    protocol: str | None = msgspec.field(default_factory=_none)
    """Requested name; ``None`` in records from before protocols had names."""
    calibration: str | None = msgspec.field(default_factory=_none)
    """Folder of the images for int8 calibration; ``None``: seeded data."""
    weights_key: str | None = None
    """Keys of the dictionary of weights in the file, joined by dots; ``None``: found by names."""
    shapes: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Sizes of all axes by input; the empty name stands for the only input."""
    dtypes: dict[str, str] = msgspec.field(default_factory=dict)
    """Element types of inputs (numpy names) that are not the default."""
    inputs: dict[str, str] = msgspec.field(default_factory=dict)
    """What inputs hold, as entered; the empty name stands for all of them."""
    signature: str | None = None
    """Which of several signatures of a pre-exported file; ``None`` for the only one."""
    tolerance: float | None = None
    """Relative error of outputs that the user accepts; ``None`` for that of the precision."""
    arguments: dict[str, str] = msgspec.field(default_factory=dict)
    """Arguments of the model's factory, as texts."""
    imports: tuple[str, ...] = ()
    """Packages to import before the model is built, which may register it."""
    nondeterministic: bool = False
    """Time a model even if its outputs differ from run to run, which leaves them unchecked."""
    require: tuple[str, ...] = ()
    """Units in lower case, on one of which every operator must run; empty: anywhere."""
    cpus: str | None = None
    """CPUs to run on: ``big``, ``mid``, ``little`` or a list (``0,4-7``); ``None``: all that a
    worker may use."""


def make_request(
    model: str,
    *,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    protocol: str | None = None,
    backend: str = "",
    device: str = "",
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
    calibration: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | Sequence[str] = (),
    signature: str | None = None,
    tolerance: float | None = None,
    arguments: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
    nondeterministic: bool = False,
    require: str | Sequence[str] = (),
    cpus: str | None = None,
) -> Request:
    """Create a request and check its values. Raise :class:`UsageError`.

    ``shapes``, ``inputs`` and ``require`` are also accepted as the texts of ``--shape``,
    ``--input`` and ``--require``. Names of files may contain any bytes.
    """
    sizes, types = _shapes(shapes)
    request = Request(
        model=_stored("model", model),
        backend=backend,
        device=device,
        weights=_stored("weights", weights) if weights is not None else None,
        batch=batch,
        resolution=(resolution, resolution) if isinstance(resolution, int) else resolution,
        precision=precision,
        threads=threads,
        seed=seed,
        options=dict(options or {}),
        dims=dict(dims or {}),
        protocol=protocol,
        calibration=_stored("calibration", calibration) if calibration is not None else None,
        weights_key=weights_key,
        shapes=sizes,
        dtypes={**types, **(dtypes or {})},
        inputs=_inputs(inputs),
        signature=signature,
        tolerance=tolerance,
        arguments=dict(arguments or {}),
        imports=tuple(imports),
        nondeterministic=nondeterministic,
        require=_units(require),
        cpus=None if cpus is None else read_cpus(cpus),
    )
    check_request(request)
    return request


def check_request(request: Request) -> None:
    """Reject values that no model or backend accepts. Raise :class:`UsageError`."""
    _check_texts(request)
    precision, threads, seed = request.precision, request.threads, request.seed
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=suggest(precision, PRECISIONS))
    if request.calibration is not None and precision != "int8":
        raise UsageError(
            f"--calibration requires --precision int8 (got {precision})",
            hint="add --precision int8",
        )
    if request.weights_key is not None and request.weights is None:
        raise UsageError("--weights-key requires --weights", hint="add --weights FILE")
    if request.cpus is not None and read_cpus(request.cpus) != request.cpus:
        raise UsageError(f"cpus must be {read_cpus(request.cpus)}, not {request.cpus}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed must be from 0 to {2**31 - 1}, not {seed}")
    for name, size in request.dims.items():
        if size < 1:
            raise UsageError(f"axis {name} must have a size of at least 1, not {size}")
    for shape in request.shapes.values():
        if any(size < 0 for size in shape):
            raise UsageError(f"a shape has sizes of at least 0, not {'x'.join(map(str, shape))}")
    for content in request.inputs.values():
        read_content(content)
    if request.tolerance is not None and not 0 < request.tolerance < 1:
        raise UsageError(
            f"the tolerance must be above 0 and below 1, not {request.tolerance:g}",
            hint="it is an error relative to the largest output; 1 would accept anything",
        )


def _units(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names of units, each once and in lower case. Raise :class:`UsageError` for an empty one.

    A text may hold several, separated by commas.
    """
    texts = [given] if isinstance(given, str) else given
    names = [name.strip().lower() for text in texts for name in text.split(",")]
    if not all(names):
        raise UsageError("a required unit has no name", hint="name units, such as npu or npu,gpu")
    return tuple(dict.fromkeys(names))


def _stored(what: str, name: str | Path) -> str:
    try:
        return stored_name(str(name))
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: {shown_name(str(name))} cannot be a file's name") from error


def _check_texts(request: Request) -> None:
    """Refuse texts that are not names of files and that no record can store."""
    try:
        msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{shown_name(str(error.object)[:200])} contains bytes that are not UTF-8",
            hint="only names of files may: models, weights, inputs, the folder for calibration",
        ) from error


def _shapes(
    given: Mapping[str, Sequence[int]] | Sequence[str],
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return sizes and element types by input."""
    if isinstance(given, Mapping):
        return {name: tuple(sizes) for name, sizes in given.items()}, {}
    read = [read_shape(text) for text in given]
    _once("--shape", [name for name, _, _ in read])
    return (
        {name: sizes for name, sizes, _ in read},
        {name: dtype for name, _, dtype in read if dtype is not None},
    )


def _inputs(given: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(given, Mapping):
        read = [(name, str(content)) for name, content in given.items()]
    else:
        read = [read_input(text) for text in given]
    _once("--input", [name for name, _ in read])
    return {name: _stored("input", content) for name, content in read}


def _once(option: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            whose = f"input {name!r}" if name else "an input without a name"
            raise UsageError(f"{option} gives {whose} twice", hint="omit one of the two")
