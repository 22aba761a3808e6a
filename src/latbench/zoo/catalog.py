"""The models that are written here: names, inputs, and the counts that they must have."""

from __future__ import annotations

from latbench.core.errors import UsageError
from latbench.core.values import Value
from latbench.plugins import nearest


class ZooModel(Value, frozen=True, kw_only=True):
    """``parameters`` as trained, all heads included; ``macs`` of convolutions and linear layers for
    one image of ``input_shape`` (channels, height, width)."""

    name: str
    factory: str
    """``module:function``, called without arguments."""
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    paper: str


MOBILEVIG = (
    "MobileViG: Graph-Based Sparse Attention for Mobile Vision Applications, arXiv 2307.00395"
)


def _mobilevig(variant: str, parameters: int, macs: int) -> ZooModel:
    return ZooModel(
        name=f"mobilevig_{variant}",
        factory=f"latbench.zoo.nets.mobilevig:mobilevig_{variant}",
        input_shape=(3, 224, 224),
        parameters=parameters,
        macs=macs,
        paper=MOBILEVIG,
    )


ZOO = (
    _mobilevig("ti", 5_271_074, 662_142_336),
    _mobilevig("s", 7_276_538, 983_688_960),
    _mobilevig("m", 14_075_786, 1_493_425_152),
    _mobilevig("b", 26_868_506, 2_792_944_896),
)


def find(name: str) -> ZooModel:
    """The entry called ``name``. Raises :class:`UsageError` with the nearest names."""
    known = {entry.name: entry for entry in ZOO}
    if name not in known:
        raise UsageError(
            f"unknown model {name!r}",
            hint=f"{nearest(name, known)} (or timm:NAME, package.module:factory, "
            "path/to/file.py:factory, FILE.onnx)",
        )
    return known[name]
