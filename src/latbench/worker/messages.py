"""Messages between the harness and the programs that it starts, described in ``docs/PROTOCOL.md``.

Each message is one JSON object on one line and names its ``type``. The program sends :class:`Hello`
first; then each request gets exactly one response, in order. Unknown fields are ignored, so either
side may be newer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from latbench.errors import Failure, Stage
from latbench.schema.artifact import Artifact
from latbench.schema.environment import Conditions, Machine, Software
from latbench.schema.graph import Growth, MergedGraphs, Method, Over
from latbench.schema.request import Request
from latbench.schema.trace import Capability, OperatorPlan, Placement, Profile, Readings

VERSION = 2
"""Version of the worker protocol. A program that speaks another version is refused."""


SignalName = Literal["stop", "continue", "kill"]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Unsigned63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def _type(name: str) -> str:
    """``OutputsGiven`` -> ``outputs_given``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_type):
    """One line."""

    LONGEST_BYTES: ClassVar[int] = 64 * 2**20
    """A longer line is refused. A million samples take 20 MB."""


class RequestMessage(Message, frozen=True, kw_only=True):
    """A message from the harness to a program."""

    STAGE: ClassVar[Stage]
    """Stage of a failure that the program does not assign to a stage itself."""


class Hello(Message, frozen=True, kw_only=True):
    """What the program is. Sent once, without a request."""

    protocol: int
    program: str
    version: str
    pid: int
    stoppable: bool = False
    """Whether it may be stopped (SIGSTOP) while another program is timed: it ends with its owner
    even then."""


class DescribeMachine(RequestMessage, frozen=True, kw_only=True, tag="machine"):
    """Tell what machine the program runs on."""

    STAGE = "probe"
    packages: tuple[str, ...] = ()
    """Packages whose versions are wanted."""


class MachineTold(Message, frozen=True, kw_only=True):
    """Facts that do not change while the machine is up."""

    machine: Machine
    software: Software | None = None
    """Versions of the packages; ``None`` if the program has none."""


class ReadConditions(RequestMessage, frozen=True, kw_only=True, tag="conditions"):
    """Tell what can change from one minute to the next."""

    STAGE = "probe"


class ConditionsTold(Message, frozen=True, kw_only=True):
    """The conditions, and how many processes of its control group the kernel has killed for lack
    of memory (``None``: not known)."""

    conditions: Conditions
    oom_kills: Unsigned63 | None = None


class ProbeBackends(RequestMessage, frozen=True, kw_only=True, tag="capabilities"):
    """Tell which of ``backends`` the program can execute here."""

    STAGE = "probe"
    backends: tuple[str, ...]


class CapabilitiesTold(Message, frozen=True, kw_only=True):
    """What each backend that was asked about can do."""

    backends: Mapping[str, Capability]


class SignalProcess(RequestMessage, frozen=True, kw_only=True, tag="signal"):
    """Send a signal to the group of ``pid``, another worker of the same harness."""

    STAGE = "probe"
    pid: Unsigned63
    signal: SignalName


class Signaled(Message, frozen=True, kw_only=True):
    """The signal was sent if there was such a process."""

    existed: bool


class ReserveDevice(RequestMessage, frozen=True, kw_only=True, tag="reserve"):
    """Take the lock ``path`` until this program ends, so that nobody else measures meanwhile."""

    STAGE = "probe"
    path: str
    owner: str
    """Who measures, for the message that others get."""


class DeviceReserved(Message, frozen=True, kw_only=True, tag="reserved"):
    """The lock is held."""


class Open(RequestMessage, frozen=True, kw_only=True):
    """Load ``artifact``, a file at ``path`` on the program's machine, with seeded inputs.

    A session that is already open is closed first.
    """

    STAGE = "open"
    backend: str
    artifact: Artifact
    path: str
    threads: int
    seed: int
    process: int
    extra: Mapping[str, str]
    inputs: str | None = None
    """Path of the arrays (``.npz``) of inputs that come from files, by name."""
    pinned: bool = False
    """Restrict the program to as many CPUs as there are threads."""
    cpus: tuple[Unsigned63, ...] | None = None
    """Restrict the program to these CPUs before it loads anything; ``None``: no restriction."""


class SessionOpened(Message, frozen=True, kw_only=True, tag="opened"):
    """``load_ns`` is the time from an initialized runtime to a session that can run, with its
    inputs in place."""

    load_ns: Int64
    version: str | None
    settings: Mapping[str, str]
    placement: Placement


class Time(RequestMessage, frozen=True, kw_only=True):
    """Run ``calls`` inferences back to back, or one each ``period_ns``; readings are taken around
    all but the first ``settle``."""

    STAGE = "time"
    calls: int
    settle: int = 0
    period_ns: int | None = None


class BlockTimed(Message, frozen=True, kw_only=True, tag="timed"):
    """``start_ns`` counts from the moment the session was open."""

    start_ns: Int64
    sample_ns: tuple[Int64, ...]
    readings: Readings | None = None
    beside_ns: Mapping[str, tuple[Int64, ...]] = {}
    """Durations of the same calls by other clocks, by the clock's name."""


class TimeOperators(RequestMessage, frozen=True, kw_only=True):
    """Run ``calls`` more inferences and report how long each operator takes."""

    STAGE = "time"
    calls: int


class OperatorsTimed(Message, frozen=True, kw_only=True):
    """The profile; ``None`` if the runtime, or this version of it, cannot profile.

    Some runtimes have a plan instead.
    """

    profile: Profile | None
    plan: OperatorPlan | None = None


class Outputs(RequestMessage, frozen=True, kw_only=True):
    """Send the outputs of the latest inference."""

    STAGE = "outputs"


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """Elements in little-endian byte order and C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class OutputsGiven(Message, frozen=True, kw_only=True):
    """The outputs, and the peak memory use of the program so far."""

    LONGEST_BYTES: ClassVar[int] = 2**30
    tensors: tuple[Tensor, ...]
    peak_rss_bytes: Unsigned63 | None


class Close(RequestMessage, frozen=True, kw_only=True):
    """Close the session and end the program."""

    STAGE = "outputs"


class Closed(Message, frozen=True, kw_only=True):
    """The last line."""


class Failed(
    Failure,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=False,
    tag_field="type",
    tag="failed",
):
    """The request failed. The program accepts further requests unless it ends.

    The fields are those of :class:`~latbench.errors.Failure`, at the top level of the message.
    """

    @classmethod
    def of(cls, failure: Failure) -> Failed:
        """The message that carries ``failure``."""
        return cls(**msgspec.structs.asdict(failure))

    @property
    def failure(self) -> Failure:
        """The failure without the message around it."""
        return Failure(**msgspec.structs.asdict(self))


class Refused(Message, frozen=True, kw_only=True):
    """The request is invalid: an unknown option or name, or a file that does not fit."""

    message: str
    hint: str | None = None


class Export(RequestMessage, frozen=True, kw_only=True):
    """Build the model of ``request``, export it to ``format`` and check the result."""

    STAGE = "export"
    request: Request
    """Its ``options`` are those of the exporter only."""
    format: str
    out: str
    """Path of the file to write."""
    reference: str
    """Path of the reference outputs to write (``.npz``)."""
    inputs: str
    """Path of the arrays to write (``.npz``) for inputs that come from files, if there are any."""


class ExportSentinel(RequestMessage, frozen=True, kw_only=True):
    """Create the sentinel of a format; fields as for :class:`Export`."""

    STAGE = "export"
    format: str
    out: str
    reference: str


class ExportDone(Message, frozen=True, kw_only=True):
    """The artifact that was written."""

    artifact: Artifact


class CountModel(RequestMessage, frozen=True, kw_only=True):
    """Build the model called ``model`` as for a run, and count it."""

    STAGE = "build"
    model: str
    resolution: int | None = None
    over: Over | None = None
    """Count MACs at several sizes too; ``resolution`` is then the model's own."""


class ModelCounted(Message, frozen=True, kw_only=True):
    """Parameters as trained and in deploy form; MACs of the deploy form at batch 1."""

    trained: int
    deployed: int
    macs: int
    growth: Growth | None = None


class ApplyMethod(RequestMessage, frozen=True, kw_only=True):
    """Apply ``method`` to the model called ``host``, merge it and compare the graphs."""

    STAGE = "build"
    method: Method
    host: str


class MethodApplied(Message, frozen=True, kw_only=True):
    """The graphs with and without the method."""

    graphs: MergedGraphs


InferenceRequest = (
    Open
    | Time
    | TimeOperators
    | Outputs
    | Close
    | DescribeMachine
    | ReadConditions
    | ProbeBackends
    | SignalProcess
    | ReserveDevice
)
ExportRequest = Export | ExportSentinel
CountRequest = CountModel | ApplyMethod
Response = (
    Hello
    | SessionOpened
    | BlockTimed
    | OperatorsTimed
    | OutputsGiven
    | Closed
    | Failed
    | Refused
    | ExportDone
    | ModelCounted
    | MethodApplied
    | MachineTold
    | ConditionsTold
    | CapabilitiesTold
    | Signaled
    | DeviceReserved
)


def decode_response(line: bytes) -> Response:
    """The response in ``line``. Raises :class:`msgspec.DecodeError` or :class:`ValueError`.

    Every number fits into 64 bits, so that a record with it can be stored.
    """
    response: Response = msgspec.json.decode(line, type=Response)
    if not isinstance(response, OutputsGiven):  # Its only number is checked, and it may be large.
        try:
            msgspec.msgpack.encode(response)
        except OverflowError as error:
            raise ValueError("a number does not fit into 64 bits") from error
    return response
