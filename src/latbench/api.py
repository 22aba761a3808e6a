"""All that a backend may know: what it is given, what it must offer, what it may raise.

A backend is an *exporter* (PyTorch model -> file of one format) and a *runner* (file -> timed
inferences). Either may exist without the other. ``docs/BACKENDS.md`` lists those that are shipped
and ``CONTRIBUTING.md`` walks through adding one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    OperatorTime,
    Placement,
    Profile,
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
    "Model",
    "ModelIdentity",
    "OperatorTime",
    "Placement",
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
    "first_line",
    "is_out_of_memory",
    "make_inputs",
]


FORM: Mapping[str, str] = {
    "form": "deploy, trained: branches fused and BatchNorm folded, or as the authors train it "
    "(default deploy)"
}
"""The option of exporters that can export a network as it was trained as well. The harness builds
it so; an exporter need only keep its converter from fusing what the file can hold unfused."""


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """How to export. ``dims`` gives sizes to named dynamic axes of a ready file, ``options`` are
    the exporter's own, by name, as strings."""

    precision: str = "fp32"
    batch: int | None = None
    resolution: tuple[int, int] | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    calibration: Sequence[tuple[Array, ...]] = ()
    """Sets of inputs from which the ranges of activations are taken; of int8 alone."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter says about the file that it wrote."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """Read back from the file, by the definitions of :class:`~latbench.schema.artifact.Counts`;
    ``None`` for a ready file whose graph cannot be counted. What is made from a PyTorch module must
    be counted, or nothing says that it is that model."""
    details: Mapping[str, str]
    from_module: bool = True
    """Whether the file was made from the PyTorch module, whose outputs are then the reference."""
    precision: str | None = None
    """Of a ready file, as read from it, or another one that it computes in (``tf32``); ``None``:
    the one that was asked for."""


@runtime_checkable
class Model(Protocol):
    """An architecture with weights and an input shape, built only when it is asked for."""

    @property
    def identity(self) -> ModelIdentity: ...

    def module(self) -> torch.nn.Module:
        """The network in eval mode and deploy form: branches fused, BatchNorm folded. As it was
        trained where the exporter takes :data:`FORM` and that was asked for.

        Raises :class:`StageError` (stage ``build``) where it cannot be built.
        """
        ...

    def inputs(self) -> tuple[TensorSpec, ...]:
        """Concrete input shapes, batch first; images are NCHW."""
        ...


class Exporter(Protocol):
    """Writes files of one format."""

    @property
    def format(self) -> str: ...

    @property
    def suffix(self) -> str:
        """File name ending of what it writes, with its dot: a file, or a folder of files."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Endings of the ready files that :meth:`adopt` takes; none where it takes none."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """``fp32``, ``fp16``, ``int8``: what it can make, :data:`PRECISIONS` has the meanings."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """Name -> meaning of each key that it takes in :attr:`ExportSpec.options`; no name that
        the runner of the same backend takes too."""
        ...

    def toolchain(self) -> Mapping[str, str]:
        """Package -> version of everything that shapes the file. Imports nothing heavy."""
        ...

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Write ``model`` at ``out``. Raises :class:`StageError`, or :class:`UsageError` for an
        option's value."""
        ...

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check the ready file at ``path``; write it at ``out``, input shapes fixed."""
        ...

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """The outputs of the file at ``path``, for the parity check. Not timed.

        ``None`` where nothing here can execute it: the timed session is then the first to be
        compared.
        """
        ...


@runtime_checkable
class SentinelExporter(Exporter, Protocol):
    """An exporter that can also make a *sentinel*: a small fixed workload of about a millisecond,
    timed in turn with a model to tell what the machine does meanwhile. Optional."""

    @property
    def sentinel(self) -> str:
        """Its name with its version: another workload is another name."""
        ...

    def export_sentinel(self, out: Path) -> Exported:
        """Write it, the same bytes each time, without any training framework."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to open a session. ``extra`` holds the runner's own options, by name, as strings; the
    ``seed`` is that of the inputs."""

    threads: int
    seed: int = 0
    process: int = 0
    """Which of the run's processes this is, from 0."""
    extra: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Session(Protocol):
    """One loaded artifact in one process, its seeded inputs where the runtime wants them."""

    def run(self) -> None:
        """One synchronous inference: returns when the outputs can be read."""
        ...

    def outputs(self) -> tuple[Array, ...]:
        """The outputs of the latest inference."""
        ...

    def placement(self) -> Placement: ...

    def settings(self) -> Mapping[str, str]:
        """Threads, precision, provider, ... as they really are, not as they were asked for.

        ``threads`` is always there (``unknown`` where nobody can say). ``precision`` where the
        runtime computes in another one than the artifact's, and ``input_bits`` ``8`` where its
        inputs are pictures: how far outputs may be off follows these. ``runtime_version`` where it
        is not the one that the probe named.
        """
        ...


@runtime_checkable
class SelfTimedSession(Session, Protocol):
    """A session whose time must be taken by the device or runtime itself (CUDA events, a phone)."""

    def time_block(self, calls: int) -> Sequence[int]:
        """Run ``calls`` inferences back to back; integer nanoseconds of each, in order."""
        ...

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        """The inferences of the latest block by other clocks, by name: see
        :attr:`~latbench.schema.trace.Block.beside_ns`. May be empty."""
        ...


@runtime_checkable
class ProfiledSession(Session, Protocol):
    """A session whose runtime can tell how long each operator takes. Optional."""

    def profile(self, calls: int) -> Profile | None:
        """Run ``calls`` inferences more and tell; ``None`` where this version cannot.

        Called after all timing and after the outputs were read: it may slow the session down.
        """
        ...


class Runner(Protocol):
    """Executes artifacts of the formats that it names."""

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that it executes, the preferred one first."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """Name -> meaning of each key that it takes in :attr:`RunOptions.extra`."""
        ...

    def probe(self) -> Capability:
        """Whether it can run here. Never raises; loads the runtime only if that is safe."""
        ...

    def prepare(self) -> None:
        """Import the runtime, wake its driver: what is of the program, not of the load time."""
        ...

    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> AbstractContextManager[Session]:
        """Load the file at ``path`` and put ``inputs`` where the runtime wants them.

        All of it is the load time. Raises :class:`StageError` (stage ``open``).
        """
        ...
