"""Build a serialized engine from an ONNX file, and record the builder's settings."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from latbench.api import Counts, StageError, UsageError, first_line
from latbench_exporters.tensorrt.engine import NO_REASON, logger_of

DEFAULTS = {
    "workspace_mib": "all",
    "profiling": "detailed",
    "tf32": "off",
    "optimization_level": "3",
    "hardware_compatibility": "none",
    "version_compatible": "no",
    "timing_cache": "off",
    "build": "0",
    "compute_capability": "portable",
}
VERBOSITY = {"none": "NONE", "layer_names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}
HARDWARE = {
    "none": "NONE",
    "ampere_plus": "AMPERE_PLUS",
    "same_compute_capability": "SAME_COMPUTE_CAPABILITY",
}
NETWORK = "latbench"
"""Unnamed networks are numbered in order of creation, and the number is written to the file."""
MIB = 2**20
KEPT = 0.95
"""Minimum engine size relative to the parameters' bytes: a scale or two may be fused."""
SHOWN = 5
"""Maximum number of parser errors in the message; the detail has all of them."""


def checked(options: Mapping[str, str], own: Iterable[str]) -> dict[str, str]:
    """Read the builder's ``own`` options and fill in defaults. Raises :class:`UsageError`."""
    settings = {name: options.get(name, DEFAULTS[name]) for name in own}
    for name, value in settings.items():
        allowed, fits = _values(name)
        if not fits(value):
            raise UsageError(f"{name} cannot be {value!r}", hint=allowed)
    return settings


def _values(name: str) -> tuple[str, Callable[[str], bool]]:
    """Allowed values of an option, as text and as a predicate."""
    match name:
        case "optimization_level":
            return "0 to 5", lambda value: re.fullmatch("[0-5]", value) is not None
        case "workspace_mib":
            return (
                "all, or a positive integer",
                lambda value: value == "all" or (value.isdecimal() and int(value) > 0),
            )
        case "build":
            return "a non-negative integer", str.isdecimal
        case "compute_capability":
            return (
                "portable, current, or a number such as 8.9",
                lambda value: re.fullmatch(r"portable|current|\d+\.\d", value) is not None,
            )
        case "timing_cache":
            return "off, or a file path", bool
    choices = {
        "profiling": tuple(VERBOSITY),
        "hardware_compatibility": tuple(HARDWARE),
        "version_compatible": ("yes", "no"),
        "tf32": ("on", "off"),
    }[name]
    return f"one of: {', '.join(choices)}", choices.__contains__


def build(
    trt: Any, tool: str, graph_path: Path, settings: Mapping[str, str], out: Path
) -> dict[str, str]:
    """Write the engine to ``out`` and return the settings it was built with. Raises
    :class:`StageError`."""
    logger = logger_of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_flags(trt))
    network.name = NETWORK
    trt.init_libnvinfer_plugins(logger, "")
    _parse(trt, tool, graph_path, network, logger)
    config = builder.create_builder_config()
    details = _configure(trt, config, settings)
    cache = _use_timing_cache(config, settings.get("timing_cache", "off"))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _not_built(tool, logger.errors)
    out.write_bytes(memoryview(engine))
    if cache is not None:
        kept = bytes(config.get_timing_cache().serialize())
        _replace(cache, kept)
        details["timing_cache_after"] = _sha256(kept)
    return {
        "tool": f"{tool} {trt.__version__}",
        "network_layers": str(network.num_layers),
        **settings,
        **details,
    }


def check_size(out: Path, counts: Counts | None) -> None:
    """Raise :class:`StageError` if the engine is smaller than the weights. An engine's graph cannot
    be counted, but a branch removed by the builder makes it smaller."""
    wanted = 0 if counts is None else counts.parameter_bytes
    if out.stat().st_size < KEPT * wanted:
        raise StageError(
            "verify",
            f"the engine has {out.stat().st_size:,} bytes, the model's parameters {wanted:,}",
            hint="the builder removed a part of the network; weights that are all zero or all "
            "equal are a common cause",
            kind="mismatch",
        )


def _flags(trt: Any) -> int:
    """Flags for a strongly typed network. TensorRT 11 and TensorRT for RTX are always strongly
    typed and ignore the flag."""
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if typed is None else 1 << int(typed)


def _parse(trt: Any, tool: str, graph_path: Path, network: Any, logger: Any) -> None:
    """Parse the ONNX file into ``network``. Raises :class:`StageError` with the parser's errors."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(graph_path)):
        return
    errors = [_described(parser.get_error(i)) for i in range(parser.num_errors)]
    errors = errors or [first_line(text, NO_REASON) for text in logger.errors] or [NO_REASON]
    more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    raise StageError(
        "export",
        f"the ONNX parser of {tool} rejects the model: {'; '.join(errors[:SHOWN])}{more}",
        hint="it requires signed symmetric int8 and floating-point biases; --precision int8 "
        "exports that from the PyTorch model"
        if "quantizelinear" in errors[0].lower()
        else "another opset (--option opset=18) may avoid the operator, or another version of "
        f"{tool} may support it",
        detail="\n".join(errors),
    )


def _described(error: Any) -> str:
    """Operator, node and reason. The description is often just the condition that failed."""
    code = str(error.code()).rpartition(".")[2].lower().replace("_", " ")
    lines = [line.strip() for line in error.desc().splitlines() if line.strip()]
    # "Invalid Node - NAME" repeats what is already in the message.
    said = [line for line in lines if not line.startswith("Invalid Node -")][:1]
    reason = f"{code}: {said[0]}" if said and said[0] != "false" else code
    node = f"{error.node_operator()} {error.node_name()!r}: " if error.node_operator() else ""
    return node + reason


def _configure(trt: Any, config: Any, settings: Mapping[str, str]) -> dict[str, str]:
    """Apply ``settings`` to ``config``; return those that it then reports."""
    verbosity = VERBOSITY[settings["profiling"]]
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, verbosity)
    # TF32 is on by default, which would make fp32 less precise.
    if settings["tf32"] == "on":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    workspace = trt.MemoryPoolType.WORKSPACE
    if settings["workspace_mib"] != "all":
        config.set_memory_pool_limit(workspace, int(settings["workspace_mib"]) * MIB)
    effective = {"workspace_mib": str(config.get_memory_pool_limit(workspace) // MIB)}
    if "optimization_level" in settings:
        config.builder_optimization_level = int(settings["optimization_level"])
        effective["optimization_level"] = str(config.builder_optimization_level)
    if settings.get("hardware_compatibility", "none") != "none":
        level = HARDWARE[settings["hardware_compatibility"]]
        if not hasattr(trt.HardwareCompatibilityLevel, level):
            raise UsageError(
                f"hardware_compatibility={settings['hardware_compatibility']} is not supported by "
                "this TensorRT",
                hint="use none or ampere_plus, or a later version",
            )
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if settings.get("version_compatible") == "yes":
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.get("compute_capability", "portable") != "portable":
        _target(trt, config, settings["compute_capability"])
    return effective


def _target(trt: Any, config: Any, capability: str) -> None:
    name = "CURRENT" if capability == "current" else f"SM{capability.replace('.', '')}"
    known = [key for key in trt.ComputeCapability.__members__ if key.startswith("SM")]
    if name != "CURRENT" and name not in known:
        shown = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in known)
        raise UsageError(
            f"this version cannot build for compute capability {capability}",
            hint=f"use portable, current, or one of: {shown}",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _use_timing_cache(config: Any, asked: str) -> Path | None:
    """Attach a timing cache to ``config`` and return its file, which need not exist yet."""
    if asked == "off":
        return None
    path = Path(asked).expanduser()
    try:
        before = path.read_bytes() if path.exists() else b""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Check now that the folder is writable: the build takes minutes.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unusable(path, error) from error
    cache = config.create_timing_cache(before)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise StageError(
            "export",
            f"the timing cache {path} is damaged or from another GPU or TensorRT version",
            hint="delete it, or use another file",
        )
    return path


def _replace(cache: Path, kept: bytes) -> None:
    """Write a temporary file and rename it, since another build may be reading the cache."""
    beside = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        beside.write_bytes(kept)
        beside.replace(cache)
    except OSError as error:
        raise _unusable(cache, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _unusable(cache: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot use the timing cache {cache}: {error.strerror}", hint="pass a file path, or off"
    )


def _not_built(tool: str, errors: list[str]) -> StageError:
    """The failure of a build; only the logger knows the reason."""
    # If no GPU is needed, CUDA errors about a missing one are not the reason.
    reasons = [text for text in errors if "catchCudaError" not in text] or errors
    reason = first_line(reasons[0] if reasons else "", NO_REASON)
    short = re.search("out ?of ?memory", " ".join(errors), re.IGNORECASE) is not None
    return StageError(
        "export",
        f"{tool} cannot build the engine: {reason}",
        hint="use a smaller batch, or less workspace (--option workspace_mib=...)"
        if short
        else "try other builder options, or another version (see `latbench backends`)",
        kind="out_of_memory" if short else "error",
        detail="\n".join(errors) or None,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
