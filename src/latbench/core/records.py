"""The record: what was asked for, what was timed, where, how, and what the clock said.

These structs are the stored format (``docs/FORMAT.md``). A record holds facts only; everything that
is computed from it (median, interval, trust) lives in :mod:`latbench.core.summary`.

Units are in the names: ``_ns`` nanoseconds, ``_bytes``, ``_mc`` millidegrees Celsius, ``_khz``,
``_milli`` thousandths. ``None`` means that a fact is not known; it never means zero.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from latbench.core.protocols import TimingProtocol
from latbench.core.values import Value
from latbench.errors import FailureKind, Stage

SCHEMA = 3


class TensorSpec(Value, frozen=True, kw_only=True):
    """Name, concrete shape and element type (numpy name, e.g. ``float32``) of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Counts(Value, frozen=True, kw_only=True):
    """What a model or an artifact consists of.

    ``macs`` are the multiply-accumulates of convolutions and of products with constant weights
    (linear layers), at the artifact's input shape, batch included. Products of two activations
    (attention) and elementwise work are not counted. ``operators`` counts calls, by
    ``conv`` and ``linear``.
    """

    macs: int
    parameters: int
    parameter_bytes: int
    operators: dict[str, int]


class Parity(Value, frozen=True, kw_only=True):
    """How far an artifact's outputs are from the reference's, on the same seeded inputs."""

    reference: str
    seed: int
    max_abs_error: float
    max_rel_error: float
    """Largest relative error of an output: over its own largest absolute reference value, or over
    the largest of all where its own are all zero."""
    tolerance: float
    """The bound on ``max_rel_error`` that was enforced."""
    inputs: int = 1
    """How many sets of seeded inputs were compared."""
    cosine: float | None = None
    """Smallest cosine between outputs and reference; ``None`` in records from before schema 3, or
    where one of them is all zero."""
    top1_agreement_ppm: int | None = None
    """Rows of the first output whose largest element is where the reference's is, in millionths;
    ``None`` where the first output is no table of scores."""


class ModelIdentity(Value, frozen=True, kw_only=True):
    """Which network, with which weights, at which input."""

    name: str
    source: Literal["zoo", "timm", "user", "file"]
    architecture: str
    """``sha256:`` of the architecture's source, or of a ready file with the external data that it
    names."""
    weights: str
    """``seed:N``, ``sha256:`` of the weights file, or ``file`` where they came with the model."""
    batch: int | None
    resolution: tuple[int, int] | None
    """Height and width; ``None`` where the model's own default was left in place."""
    paper: str | None = None


class Artifact(Value, frozen=True, kw_only=True):
    """One exported file, addressed by its digest, and what was checked about it."""

    sha256: str
    size_bytes: int
    format: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """As read back from the file."""
    model_counts: Counts | None
    """Of the PyTorch model in the form that was exported, its deploy form unless ``details`` say
    otherwise; ``None`` for a ready file."""
    trained_parameters: int | None
    """Parameters of the model as published (before fusion); ``None`` for a ready file."""
    parity: Parity | None
    details: dict[str, str]
    toolchain: dict[str, str]


class Placement(Value, frozen=True, kw_only=True):
    """What ran where, and how well that is known."""

    units: dict[str, int | None]
    """Compute unit, execution provider or delegate -> operators placed on it (``None``: not
    known)."""
    known: Literal["proven", "planned", "unknown"]
    """``proven``: seen in a profile, or nothing else was there to run on. ``planned``: what the
    runtime says that it will do."""
    note: str | None = None
    partitions: int | None = None
    """Runs of equal unit in the order of execution, 1 at least; each border may cost a copy."""


class Capability(Value, frozen=True, kw_only=True):
    """Whether a backend can run here, with what, and otherwise why not and what to do."""

    available: bool
    version: str | None = None
    units: tuple[str, ...] = ()
    reason: str | None = None
    hint: str | None = None


class Fact(Value, frozen=True, kw_only=True):
    """A device fact and where it was read."""

    value: str | int | float | bool | tuple[str, ...]
    source: str


class Device(Value, frozen=True, kw_only=True):
    """One row of ``devices.yaml``: facts with a source, or ``None``. No behaviour."""

    id: str
    name: str
    kind: Literal["phone", "tablet", "laptop", "desktop", "server", "board", "gpu", "unknown"]
    transport: Literal["local", "ssh", "adb", "apple"] | None = None
    """How latbench would reach it; ``None`` where the row only documents published claims."""
    soc: Fact | None = None
    cpu: Fact | None = None
    gpu: Fact | None = None
    npu: Fact | None = None
    memory_bytes: Fact | None = None
    os: Fact | None = None
    year: Fact | None = None
    backends: Fact | None = None
    note: str | None = None


class Cache(Value, frozen=True, kw_only=True):
    """One level of CPU cache as CPU 0 sees it."""

    level: int
    type: str
    size_bytes: int | None
    shared_by: int | None
    """Logical CPUs that share it."""


class Machine(Value, frozen=True, kw_only=True):
    """What does not change while a machine is up."""

    hostname: str | None
    os: str | None
    kernel: str | None
    libc: str | None
    architecture: str | None
    hypervisor: str | None
    cpu_model: str | None
    cpu_features: tuple[str, ...] | None
    caches: tuple[Cache, ...] | None
    sockets: int | None
    physical_cores: int | None
    logical_cpus: int | None
    smt: bool | None
    memory_bytes: int | None


class Software(Value, frozen=True, kw_only=True):
    """Versions that matter for a number."""

    latbench: str
    python: str
    packages: dict[str, str]
    commit: str | None
    """Commit of the working directory's repository, ``+dirty`` where it has changes."""


class Conditions(Value, frozen=True, kw_only=True):
    """What can change from one minute to the next."""

    unix_ns: int
    affinity: tuple[int, ...] | None
    cpu_quota_milli: int | None
    """CPU bandwidth limit of the control group, in thousandths of a CPU; ``None``: no limit."""
    usable_cpus: int
    """CPUs that this process may really use: affinity and quota together."""
    governor: tuple[str, ...] | None
    turbo: bool | None
    frequency_khz: tuple[int, ...] | None
    temperature_mc: int | None
    """The hottest CPU sensor."""
    memory_available_bytes: int | None
    load_1m_milli: int | None
    throttled_ns: int | None
    """Time that the control group has been throttled, since it was made."""
    steal_ns: int | None
    """Time taken by the hypervisor for others, over all CPUs, since boot."""
    on_battery: bool | None


class Environment(Value, frozen=True, kw_only=True):
    """The machine and its state before and after the measurement."""

    machine: Machine
    software: Software
    before: Conditions
    after: Conditions | None


class Readings(Value, frozen=True, kw_only=True):
    """What the machine did while one block was timed; read just before and just after it.

    Differences between the two, unless a field says otherwise.
    """

    wall_ns: int
    cpu_ns: int | None
    """CPU time of the worker, all its threads."""
    wait_ns: int | None
    """How long the worker's threads were ready to run and had no CPU (Linux: run-queue wait)."""
    involuntary_switches: int | None
    others_ns: int | None
    """CPU time of everything else on the machine, all CPUs; known to some 10 ms."""
    steal_ns: int | None
    """CPU time that the hypervisor gave to others, all CPUs; known to some 10 ms."""
    throttled_ns: int | None
    frequency_khz: int | None
    """Of the fastest CPU, after the block: idle ones clock down and that means nothing."""
    temperature_mc: int | None
    """The hottest CPU sensor, after the block."""


class Block(Value, frozen=True, kw_only=True):
    """Back-to-back inferences. ``start_ns`` counts from the moment the session was open."""

    start_ns: int
    sample_ns: tuple[int, ...]
    settle_calls: int = 0
    """How many of the first samples are not counted: something else ran just before."""
    readings: Readings | None = None
    beside_ns: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """The same inferences by other clocks, by name: ``call`` (around the call from the host),
    ``device`` (by the device itself), ``transfers`` (copies in and out). Nothing is computed from
    them that is not named so."""


class Trace(Value, frozen=True, kw_only=True):
    """What the clock said in one session, in order."""

    process: int
    session: int = 0
    """Which of the process's sessions, from 0: some protocols load the model anew."""
    opened_ns: int | None = None
    """When the session was open, since the run began."""
    load_ns: int
    first_ns: int | None
    warmup_ns: tuple[int, ...]
    blocks: tuple[Block, ...]
    peak_rss_bytes: int | None


class OperatorTime(Value, frozen=True, kw_only=True):
    """One operator of a profiled inference."""

    name: str
    kind: str
    """As the runtime calls it: ``Conv``, ``XNNPACK GEMM``, …"""
    time_ns: int
    """Mean over the profiled calls."""
    unit: str | None = None
    precision: str | None = None


class Profile(Value, frozen=True, kw_only=True):
    """Where the time goes, by operator, taken after and apart from the timed samples."""

    source: str
    """What measured it, with its version."""
    calls: int
    total_ns: int
    """Mean of the profiled inferences; operators need not sum to it."""
    operators: tuple[OperatorTime, ...]
    """In the order of execution."""


class OutputCheck(Value, frozen=True, kw_only=True):
    """The outputs of the timed session, after timing, looked at."""

    process: int
    finite: bool
    denormals: int
    max_rel_error: float | None
    """Against the reference; ``None``: not comparable, for its shape or for what is not finite."""
    tolerance: float
    cosine: float | None = None


class Failure(Value, frozen=True, kw_only=True):
    """Why there is no number."""

    stage: Stage
    kind: FailureKind
    message: str
    hint: str | None = None
    detail: str | None = None
    """The end of what the failed program wrote to its standard error."""


class Outcome(Value, frozen=True, kw_only=True):
    """The traces, complete or up to where it ended, and why it ended early where it did."""

    status: Literal["measured", "failed", "interrupted"]
    stopped: Literal["complete", "precise", "budget", "processes"] | None = None
    """Why a measured run ended: all calls made, precise enough, budget spent, or as many processes
    as the protocol allows without being precise enough."""
    traces: tuple[Trace, ...] = ()
    sentinel: tuple[Trace, ...] = ()
    """Of the sentinel that alternated with the model, block by block."""
    checks: tuple[OutputCheck, ...] = ()
    profile: Profile | None = None
    """``None`` where none was asked for."""
    failure: Failure | None = None


class Runtime(Value, frozen=True, kw_only=True):
    """The program that executed the artifact, its settings as they really were, and placement."""

    name: str
    version: str | None
    settings: dict[str, str]
    placement: Placement | None


class Sentinel(Value, frozen=True, kw_only=True):
    """The fixed workload that alternated with the model, or why there was none."""

    name: str | None
    """With its version; latencies over sentinels of different names are not comparable."""
    sha256: str | None
    absent: str | None = None


class Fallback(Value, frozen=True, kw_only=True):
    """The backend that was asked for could not run here, and another one was used."""

    reason: str
    hint: str | None
    artifact: Artifact | None = None
    """What was exported and checked for the backend that was asked for, never executed by it."""
    failure: Failure | None = None
    """Why that artifact could not be had."""


class SweepPoint(Value, frozen=True, kw_only=True):
    """The record's place in a sweep."""

    sweep: str
    """Shared by the records of one sweep."""
    points_sha256: str
    """Of all its points and its protocol: equal where the same was asked for."""
    point: int
    """Which of the points, in the order in which they were given."""
    points: int
    order_seed: int
    """Seed of the random order in which they were measured."""


class Interleaved(Value, frozen=True, kw_only=True):
    """The record's part in a comparison whose parts were timed in turn, block by block.

    Block ``i`` of session ``j`` of process ``k`` was timed beside the same of the other parts.
    """

    comparison: str
    """Shared by the records of one comparison."""
    part: int
    parts: int
    order_seed: int
    """Seed of the random order of the parts in each round."""


class Request(Value, frozen=True, kw_only=True):
    """What was asked for, in the user's words."""

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
    protocol: str | None = None
    """As named, ``None`` in records from before protocols had names."""
    calibration: str | None = None
    """Where the images came from that int8 was calibrated with; ``None``: seeded data."""


class Record(Value, frozen=True, kw_only=True):
    """The unit of storage."""

    schema: int
    id: str
    created_unix_ns: int
    request: Request
    model: ModelIdentity
    backend: str
    """The backend that was used; ``request.backend`` differs from it after a fallback."""
    device: Device
    artifact: Artifact | None
    runtime: Runtime | None
    environment: Environment
    protocol: TimingProtocol
    protocol_sha256: str
    """Of the canonical JSON of ``protocol``: equal where numbers were taken alike."""
    sentinel: Sentinel | None
    """``None`` where the protocol asks for none."""
    interleaved: Interleaved | None
    """``None`` where nothing was compared."""
    fallback: Fallback | None
    """``None`` where the backend that was asked for is the one that was used."""
    sweep: SweepPoint | None
    """``None`` for a run of its own."""
    outcome: Outcome
