"""Define the kinds of statements that papers make."""

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
"""``size``: parameters or MACs; the source does not specify which."""


Sense = Literal["less", "more", "of"]
"""Direction of the metric: "1.5x faster" is a ratio of latency with ``less``; "a third of the
parameters" has ``of``."""


ComputeUnit = Literal["cpu", "gpu", "npu", "cpu-and-gpu", "all"]


TIMED = ("latency", "throughput")


COUNTED = ("parameters", "macs", "size")


class StatedValue(Value, frozen=True, kw_only=True, tag_field="kind", tag="value"):
    """ "0.78 ms". The value may be ``failed``: the source states that the model does not run."""

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
    """Meaning of a percentage of speed: 25 % less time, 25 % more inferences, or not specified."""
    around_percent: float | None = None
    """Tolerance for values that the source calls approximate ("around one third")."""


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
    """``registry``: the source does not give a tolerance, so latbench chose this one."""


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
    """ "linear in the number of tokens": the metric grows with the ``exponent``-th power."""

    metric: Literal["latency", "macs", "memory"]
    over: Over
    exponent: float


class StatedIdentity(Value, frozen=True, kw_only=True, tag_field="kind", tag="identity"):
    """ "without any additional inference cost": the deployed model is the plain one."""

    metric: Literal["latency", "memory"]
    method: str
    against: str
    merges: Method | None = None
    """The method that latbench can apply to a network and merge into it."""
    hosts: tuple[str, ...] = ()
    """Networks to check it on, as ``latbench run --model`` accepts them. Default: the network of
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
