"""The interface between latbench and backends: what they receive, provide, and raise.

A backend is an *exporter* (PyTorch model -> file of one format) and a *runner* (file -> timed
inferences). Either may exist without the other. ``docs/BACKENDS.md`` lists the shipped backends,
and ``CONTRIBUTING.md`` explains how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from latbench.errors import (
    Stage,
    StageError,
    UsageError,
    choice_option,
    first_line,
    is_out_of_memory,
)
from latbench.schema.artifact import (
    Artifact,
    Counts,
    ModelIdentity,
    TensorSpec,
)
from latbench.schema.seeded_inputs import make_inputs
from latbench.schema.trace import (
    Capability,
    OperatorPlan,
    OperatorTime,
    Placement,
    PlannedOperator,
    Profile,
    examples_of,
)

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
else:
    Array: TypeAlias = Any

__all__ = [
    "FORM",
    "Array",
    "Artifact",
    "Capability",
    "Counts",
    "ExportSpec",
    "Exported",
    "Exporter",
    "FileContent",
    "InspectingExporter",
    "Model",
    "ModelIdentity",
    "OpenTensor",
    "OperatorPlan",
    "OperatorTime",
    "Placement",
    "PlacingRunner",
    "PlannedOperator",
    "PlannedSession",
    "Profile",
    "ProfiledSession",
    "RunOptions",
    "Runner",
    "SelfTimedSession",
    "SentinelExporter",
    "Session",
    "Stage",
    "StageError",
    "TensorSpec",
    "UsageError",
    "choice_option",
    "examples_of",
    "first_line",
    "is_out_of_memory",
    "make_inputs",
]


FORM: Mapping[str, str] = {
    "form": "deploy, trained: branches fused and BatchNorm folded, or as the authors train it "
    "(default deploy)"
}
"""Option of exporters that can also export a network in its trained form. latbench builds the
module in that form; the exporter must keep its converter from fusing what the format can hold
unfused."""


def _seeded(specs: Sequence[TensorSpec]) -> tuple[Array, ...]:
    return make_inputs(specs, 0)


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Parameters of an export."""

    precision: str = "fp32"
    batch: int | None = None
    resolution: tuple[int, int] | None = None
    """Height and width in pixels."""
    dims: Mapping[str, int] = field(default_factory=dict)
    """Sizes of named dynamic axes of a pre-exported file."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Sizes of all axes of an input, by input; the empty name stands for the only input."""
    signature: str | None = None
    """Which of several signatures of a pre-exported file is used."""
    make_inputs: Callable[[Sequence[TensorSpec]], tuple[Array, ...]] = _seeded
    """The arrays that the artifact will be timed with, for its own inputs."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The exporter's own options, name -> value."""
    calibration: Sequence[tuple[Array, ...]] = ()
    """Input sets for the ranges of activations, one array per input; used by int8 only."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Description of an exported file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """Read back from the file, as defined by :class:`~latbench.schema.artifact.Counts`. ``None``
    for a graph that cannot be counted; ``details`` may say why as ``uncounted``. Equal counts show
    that a file exported from a PyTorch module is that model; without them, only its outputs do."""
    details: Mapping[str, str]
    from_module: bool = True
    """Whether the file comes from the PyTorch module, whose outputs are then the reference."""
    precision: str | None = None
    """Precision read from a pre-exported file, or the precision that the file computes in if it
    differs (``tf32``); ``None`` for the requested one."""


@runtime_checkable
class Model(Protocol):
    """An architecture with weights and an input shape, built on demand."""

    @property
    def identity(self) -> ModelIdentity: ...

    def module(self) -> torch.nn.Module:
        """The network in eval mode and deploy form: branches fused, BatchNorm folded. If the
        exporter accepts :data:`FORM` and the user requests it, in trained form.

        Raises :class:`StageError` (stage ``build``) if it cannot be built.
        """
        ...

    def inputs(self) -> tuple[TensorSpec, ...]:
        """Concrete input shapes, batch first; images are NCHW, float32."""
        ...

    def example_inputs(self) -> tuple[Array, ...]:
        """Arrays for :meth:`inputs`, with which the network works: for tracing it."""
        ...


class Exporter(Protocol):
    """Exports files of one format."""

    @property
    def format(self) -> str: ...

    @property
    def suffix(self) -> str:
        """File extension with its dot, of a file or of a folder."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """File extensions of pre-exported files that :meth:`adopt` accepts; may be empty."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """Supported precisions: keys of :data:`latbench.schema.precision.PRECISIONS`."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """Name -> meaning of each key of :attr:`ExportSpec.options`. Names must differ from the
        options of the runner of the same backend. A meaning such as ``on, off: what it does``
        lists all values."""
        ...

    def toolchain(self) -> Mapping[str, str]:
        """Package -> version of everything that influences the file. Must not import heavy
        packages."""
        ...

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Write ``model`` to ``out``.

        Raises :class:`StageError` (stage ``export``), or :class:`UsageError` for an invalid option.
        """
        ...

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check the pre-exported file at ``path`` and write it to ``out`` with fixed input shapes.

        Raises :class:`StageError` for an unusable file, and :class:`UsageError` if ``spec`` differs
        from the file.
        """
        ...

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Outputs of the file at ``path`` for ``inputs``, for the parity check. Not timed.

        ``None`` if nothing on this machine can execute it; the timed session is compared instead.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class OpenTensor:
    """An input or output as a file states it."""

    name: str
    shape: tuple[int | str | None, ...] | None
    """Each axis by its size or its name, ``None`` if it has neither; ``None`` for an unknown
    rank."""
    dtype: str
    """A numpy name for tensors of numbers."""
    decides: bool = False
    """Whether the values of the input decide how much is computed."""

    @property
    def fixed(self) -> bool:
        """Whether all sizes are known."""
        return self.shape is not None and all(isinstance(size, int) for size in self.shape)


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """What a file of a format contains, read without executing it."""

    inputs: tuple[OpenTensor, ...]
    outputs: tuple[OpenTensor, ...]
    operators: Mapping[str, int]
    """Name -> number of calls."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Versions, producer and other facts that the format has."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the author stored beside the graph."""
    parameters: int | None = None
    parameter_bytes: float | None = None
    macs: int | None = None
    """At the sizes in the file; ``None`` if these are open or an operator cannot be counted."""
    precision: str | None = None
    problem: str | None = None
    """Why it cannot be measured; ``None`` if nothing speaks against it."""


@runtime_checkable
class InspectingExporter(Exporter, Protocol):
    """An exporter that can say what is in a file of its format. Optional."""

    def inspect(self, path: Path) -> FileContent:
        """The content of the file at ``path``, with open axes as they are. Executes nothing.

        Raises :class:`StageError` if it is not a file of the format.
        """
        ...


@runtime_checkable
class SentinelExporter(Exporter, Protocol):
    """An exporter that also provides a *sentinel*: a small fixed workload of about a millisecond.
    It alternates with a model to observe disturbances of the machine. Optional."""

    @property
    def sentinel(self) -> str:
        """Name and version, ``name@N``; another workload requires another name."""
        ...

    def export_sentinel(self, out: Path) -> Exported:
        """Write the sentinel to ``out``: always the same bytes, without a training framework."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Parameters of a session."""

    threads: int
    seed: int = 0
    """Seed of the inputs."""
    process: int = 0
    """Index of this process within the run, from 0."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """The runner's own options, name -> value."""


@runtime_checkable
class Session(Protocol):
    """One loaded artifact in one process, with seeded inputs where the runtime needs them."""

    def run(self) -> None:
        """Run one inference synchronously; return when the outputs are readable."""
        ...

    def outputs(self) -> tuple[Array, ...]:
        """The outputs of the latest inference."""
        ...

    def placement(self) -> Placement:
        """Compute units that execute the operators, and how that is known."""
        ...

    def settings(self) -> Mapping[str, str]:
        """Actual threads, precision, provider, ..., which may differ from the requested ones.

        ``threads`` is required (``unknown`` if it cannot be determined). ``precision`` is set if
        the runtime computes in another precision than the artifact's, and ``input_bits`` is ``8``
        if the inputs are 8-bit images; both determine the tolerance of the outputs.
        ``runtime_version`` is set if it differs from the version of the probe.
        """
        ...


@runtime_checkable
class SelfTimedSession(Session, Protocol):
    """A session timed by the device or runtime itself (CUDA events, a phone). Optional."""

    def time_block(self, calls: int) -> Sequence[int]:
        """Run ``calls`` inferences back to back; return the duration of each in ns, in order."""
        ...

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        """Durations in ns of the latest block by other clocks, by clock name; may be empty. See
        :attr:`~latbench.schema.trace.Block.beside_ns`."""
        ...


@runtime_checkable
class ProfiledSession(Session, Protocol):
    """A session whose runtime can measure the duration of each operator. Optional."""

    def profile(self, calls: int) -> Profile | None:
        """Run ``calls`` more inferences and return operator times; ``None`` if not supported.

        Called after timing and after the outputs were read: it may slow down the session.
        """
        ...


@runtime_checkable
class PlannedSession(Session, Protocol):
    """A session whose runtime says what it expects of each operator. Optional."""

    def plan(self) -> OperatorPlan | None:
        """Return where each operator is expected to run, and its estimated cost."""
        ...


class Runner(Protocol):
    """Executes artifacts of one or more formats."""

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> tuple[str, ...]:
        """Supported formats, the preferred one first."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """Name -> meaning of each key of :attr:`RunOptions.extra`."""
        ...

    def probe(self) -> Capability:
        """Whether it can run on this machine. Never raises; loads the runtime only if safe."""
        ...

    def prepare(self) -> None:
        """Import the runtime and wake its driver, so that neither counts as load time."""
        ...

    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> AbstractContextManager[Session]:
        """Load the file at ``path`` and put ``inputs`` where the runtime needs them.

        The duration of this call is the load time. Raises :class:`StageError` (stage ``open``), or
        :class:`UsageError` for an invalid option.
        """
        ...


@runtime_checkable
class InstallableRunner(Protocol):
    """A runner that ``latbench devices install`` can put on a device. Optional."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Packages, of those that latbench or its extras require, that executing needs."""
        ...


@runtime_checkable
class PlacingRunner(Runner, Protocol):
    """A runner that declares where operators may run, for ``--require``. Optional."""

    @property
    def units(self) -> Mapping[str, tuple[str, ...]]:
        """Unit as in :attr:`Placement.units` -> more names for it, such as ``cpu`` for
        ``XNNPACK``. The empty name stands for all units that are not declared."""
        ...
