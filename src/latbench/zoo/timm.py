"""timm's models by name, even if the compiled part of torchvision does not load."""

from __future__ import annotations

import ctypes
import difflib
import importlib.util
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latbench.errors import StageError, UsageError

if TYPE_CHECKING:
    from torch import nn

OPERATORS = ("nms", "qnms")


def build_timm(
    name: str,
    resolution: tuple[int, int] | None,
    arguments: Mapping[str, object] | None = None,
) -> nn.Module:
    """The model with timm's own initialization, for ``resolution`` if it must know it.

    Raises :class:`UsageError` for an unknown name, with the nearest ones.
    """
    timm = _import_timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UsageError(
            f"timm {timm.__version__} has no model {name!r}",
            hint=f"did you mean {', '.join(close)}?"
            if close
            else "see timm.list_models(); --import PACKAGE imports one that registers models",
        )
    if resolution is not None:
        # Networks with windows or position tables are built for a size; others refuse the argument.
        try:
            return _create(timm, name, **{"img_size": resolution, **(arguments or {})})
        except TypeError:
            pass
    return _create(timm, name, **(arguments or {}))


def has(name: str) -> bool:
    """Whether timm is installed and has a model of that name, from its sources: importing takes
    seconds, and this question comes from a mistyped name."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return False
    registered = re.compile(rf"^@register_model\s+def {re.escape(name)}\(", re.MULTILINE)
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return any(registered.search(source.read_text("utf-8")) for source in sources)


def declared_input(module: nn.Module) -> tuple[int, int, int] | None:
    """Channels, height and width in the configuration that networks in timm's style carry; ``None``
    if there is none."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(module, name, None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        if size is None:
            size = getattr(config, "input_size", None)
        match size:
            case (int(channels), int(height), int(width)) if min(channels, height, width) > 0:
                return channels, height, width
    return None


def reparameterize(module: nn.Module) -> nn.Module:
    """timm's own fusing of branches."""
    from timm.utils.model import reparameterize_model

    fused: nn.Module = reparameterize_model(module)
    return fused


def _create(timm: Any, name: str, **arguments: object) -> nn.Module:
    module: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return module


def _import_timm() -> ModuleType:
    if importlib.util.find_spec("timm") is None:
        raise StageError(
            "build",
            "timm is not installed",
            hint="pip install 'latbench[timm]'",
            kind="unavailable",
        )
    repair_torchvision()
    with redirect_stdout(sys.stderr):
        import timm
    module: ModuleType = timm
    return module


def repair_torchvision() -> None:
    """Declare the operators that torchvision's Python part expects of a compiled part.

    The torchvision that pip finds beside a CPU build of torch was compiled for CUDA; its library
    does not load, and then `import torchvision`, and so `import timm`, fails on the first of these.
    Networks for classification call none of them. Does nothing once torchvision is imported.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if _KEPT or "torchvision" in sys.modules:
        return
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    libraries = [*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]
    try:
        for library in libraries:
            ctypes.CDLL(str(library))
    except OSError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        # The operators live as long as the library object, and that as long as torchvision needs.
        _KEPT.append(declared)


_KEPT: list[object] = []
