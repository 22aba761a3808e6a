"""The kinds of statements that papers make."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from latbench.schema.graph import Method, Over
from latbench.schema.value import Value

Metric = Literal[
    "latency",
    "throughput",
    "parameters",
    "macs",
    "size",
    "memory",
    "accuracy",
    "time-steps",
    "training-memory",
]
"""``size``: parameters or MACs, the source does not say which."""


Sense = Literal["less", "more", "of"]
"""Of the metric: "1.5x faster" is a ratio of latency, ``less``; "a third of the parameters" ``of``.
"""


ComputeUnit = Literal["cpu", "gpu", "npu", "cpu-and-gpu", "all"]


TIMED = ("latency", "throughput")


COUNTED = ("parameters", "macs", "size")


class StatedValue(Value, frozen=True, kw_only=True, tag_field="kind", tag="value"):
    """ "0.78 ms". The figure may be ``failed``: the source says that it does not run there."""

    metric: Literal["latency", "throughput", "accuracy"]
    figure: str
    unit: str


class StatedRatio(Value, frozen=True, kw_only=True, tag_field="kind", tag="ratio"):
    """ "1.5x faster", "35 % fewer parameters", "a third of"."""

    metric: Metric
    figure: str
    unit: Literal["x", "%"]
    sense: Sense
    against: str
    reading: Literal["time", "rate", "open"] | None = None
    """Of a percentage of speed: 25 % less time, 25 % more inferences, or the source does not
    say."""
    around_percent: float | None = None
    """For figures that the source calls approximate ("around one third")."""


class StatedDifference(Value, frozen=True, kw_only=True, tag_field="kind", tag="difference"):
    """ "2.4 ms less"."""

    metric: Metric
    figure: str
    unit: str
    sense: Literal["less", "more"]
    against: str


class StatedOrdering(Value, frozen=True, kw_only=True, tag_field="kind", tag="ordering"):
    """ "faster than": ``less`` latency."""

    metric: Metric
    sense: Literal["less", "more"]
    against: str


class StatedParity(Value, frozen=True, kw_only=True, tag_field="kind", tag="parity"):
    """ "similar latency"."""

    metric: Metric
    against: str
    tolerance_percent: float
    tolerance_from: Literal["source", "registry"]
    """``registry``: the source gives none, and this is what we hold it to."""


class StatedBound(Value, frozen=True, kw_only=True, tag_field="kind", tag="bound"):
    """ "< 80 ms"."""

    metric: Metric
    figure: str
    unit: str
    sense: Literal["below", "above"]


class StatedSize(Value, frozen=True, kw_only=True, tag_field="kind", tag="size"):
    """ "21 M parameters"."""

    metric: Literal["parameters", "macs", "memory"]
    figure: str
    unit: str


class StatedScaling(Value, frozen=True, kw_only=True, tag_field="kind", tag="scaling"):
    """ "linear in the number of tokens": the metric grows with its ``exponent``-th power."""

    metric: Literal["latency", "macs", "memory"]
    over: Over
    exponent: float


class StatedIdentity(Value, frozen=True, kw_only=True, tag_field="kind", tag="identity"):
    """ "without any additional inference cost": what is deployed is the plain model."""

    metric: Literal["latency", "memory"]
    method: str
    against: str
    merges: Method | None = None
    """The method as it can be applied to a network here and merged into it."""
    hosts: tuple[str, ...] = ()
    """Networks that it is shown on, as ``latbench run --model`` takes them; without any, the one of
    ``against``."""


Statement: TypeAlias = (
    StatedValue
    | StatedRatio
    | StatedDifference
    | StatedOrdering
    | StatedParity
    | StatedBound
    | StatedSize
    | StatedScaling
    | StatedIdentity
)


KINDS: dict[str, type] = {str(type.__struct_config__.tag): type for type in get_args(Statement)}
