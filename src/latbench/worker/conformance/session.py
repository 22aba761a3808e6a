"""Checks of one session: open, time, outputs, operators."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs
from latbench.worker import messages
from latbench.worker.conformance.suite import Check, Subject
from latbench.worker.conformance.talk import Broken, Skipped, Talk

CALLS, SETTLE = 12, 2
PERIOD_NS = 20_000_000
STEP_NS = 20_000_000
"""Counters of the kernel advance in steps of up to 10 ms, and are read twice."""
RANGES = {"float": "-2.5:255", "int": "-7:100", "uint": "3:100", "bool": "0:1"}


def _before_open(subject: Subject) -> None:
    talk = subject.shared()
    for request in (messages.Time(calls=1), messages.Outputs(), messages.TimeOperators(calls=1)):
        _not_met(talk, request)


def _missing_file(subject: Subject) -> None:
    path = subject.folder / f"absent{subject.model.path.suffix}"
    _not_met(subject.shared(), subject.model.request(path=path))


def _broken_file(subject: Subject) -> None:
    path = subject.folder / f"broken{subject.model.path.suffix}"
    path.write_bytes(bytes(range(7)) * 30)
    _not_met(subject.shared(), subject.model.request(path=path))


def _unknown_backend(subject: Subject) -> None:
    _not_met(subject.shared(), subject.model.request(backend="no-such-backend"))


def _not_met(talk: Talk, request: messages.RequestMessage) -> None:
    """The request is answered with ``failed`` or ``refused``, with words, and the next one too."""
    talk.request(request)
    response = talk.any_response()
    if not isinstance(response, messages.Failed | messages.Refused):
        raise Broken(f"{type(response).__name__}, as if it could be met")
    if not response.message.strip():
        raise Broken("a failure without words")
    talk.ask(messages.ProbeBackends(backends=()), messages.CapabilitiesTold)


def _open(subject: Subject) -> None:
    opened = subject.shared().ask(subject.model.request(), messages.SessionOpened)
    if opened.load_ns <= 0:
        raise Broken(f"load_ns {opened.load_ns}")
    if not opened.placement.units:
        raise Broken("a placement without units")


def _open_again(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    begun = time.monotonic_ns()
    talk.ask(subject.model.request(seed=1), messages.SessionOpened)
    timed = talk.ask(messages.Time(calls=1), messages.BlockTimed)
    if timed.start_ns > time.monotonic_ns() - begun:
        raise Broken(f"start_ns {timed.start_ns} counts from before the session was opened again")
    _same_inputs(talk, subject.model.specs({}), seed=1)


def _after_a_failure(subject: Subject) -> None:
    _missing_file(subject)
    _not_met(subject.shared(), messages.Time(calls=1))


def _bad_block(subject: Subject) -> None:
    talk = subject.opened()
    for calls, settle in ((-1, 0), (2, 3), (2, -1)):
        _not_met(talk, messages.Time(calls=calls, settle=settle))


def _unknown_option(subject: Subject) -> None:
    _not_met(subject.shared(), subject.model.request(extra={"no_such_option": "1"}))


def _time(subject: Subject) -> None:
    opening = time.monotonic_ns()
    talk = subject.opened()
    starts = [-1]
    for calls, settle in ((1, 0), (CALLS, SETTLE), (CALLS, 0)):
        begun = time.monotonic_ns()
        timed = talk.ask(messages.Time(calls=calls, settle=settle), messages.BlockTimed)
        wall_ns = time.monotonic_ns() - begun
        _samples(timed, calls, wall_ns)
        starts.append(timed.start_ns)
        if timed.start_ns <= starts[-2]:
            raise Broken(f"start_ns {timed.start_ns} after a block with {starts[-2]}")
        if timed.start_ns > time.monotonic_ns() - opening:
            raise Broken(f"start_ns {timed.start_ns}, later than now")


def _samples(timed: messages.BlockTimed, calls: int, wall_ns: int) -> None:
    if len(timed.sample_ns) != calls:
        raise Broken(f"{len(timed.sample_ns)} samples of {calls} calls")
    if low := [sample for sample in timed.sample_ns if sample <= 0]:
        raise Broken(f"a sample of {low[0]} ns")
    if sum(timed.sample_ns) > wall_ns:
        raise Broken(
            f"samples with a sum of {sum(timed.sample_ns)} ns, {wall_ns} ns after the request"
        )
    for name, values in timed.beside_ns.items():
        if len(values) != calls:
            raise Broken(f"{len(values)} values beside_ns {name!r} of {calls} calls")


def _period(subject: Subject) -> None:
    talk = subject.opened()
    calls = 6
    begun = time.monotonic_ns()
    timed = talk.ask(messages.Time(calls=calls, period_ns=PERIOD_NS), messages.BlockTimed)
    wall_ns = time.monotonic_ns() - begun
    _samples(timed, calls, wall_ns)
    if wall_ns < (calls - 1) * PERIOD_NS:
        raise Broken(f"{calls} calls within {wall_ns} ns, one every {PERIOD_NS} ns was asked for")
    if min(timed.sample_ns) >= PERIOD_NS * 9 // 10:
        raise Broken(f"samples of at least {min(timed.sample_ns)} ns, which include the wait")


def _readings(subject: Subject) -> None:
    talk = subject.opened()
    begun = time.monotonic_ns()
    timed = talk.ask(messages.Time(calls=CALLS, settle=SETTLE), messages.BlockTimed)
    wall_ns = time.monotonic_ns() - begun
    found = timed.readings
    if found is None:
        raise Skipped("the worker leaves readings out")
    if not sum(timed.sample_ns[SETTLE:]) <= found.wall_ns <= wall_ns:
        raise Broken(
            f"wall_ns {found.wall_ns}; the counted samples sum to {sum(timed.sample_ns[SETTLE:])} "
            f"and the response came after {wall_ns}"
        )
    names = ("cpu_ns", "wait_ns", "involuntary_switches", "others_ns", "steal_ns", "throttled_ns")
    for name in names:
        value = getattr(found, name)
        if value is not None and value < 0:
            raise Broken(f"{name} {value}")
    if found.cpu_ns is not None and found.cpu_ns > wall_ns * (os.cpu_count() or 1) + STEP_NS:
        raise Broken(f"cpu_ns {found.cpu_ns} in {wall_ns} ns")
    if found.frequency_khz is not None and not 1_000 <= found.frequency_khz <= 20_000_000:
        raise Broken(f"frequency_khz {found.frequency_khz}")
    if found.temperature_mc is not None and not -60_000 <= found.temperature_mc <= 200_000:
        raise Broken(f"temperature_mc {found.temperature_mc}")


def _outputs(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    given = talk.ask(messages.Outputs(), messages.OutputsGiven)
    wanted = subject.model.inputs
    if len(given.tensors) != len(wanted):
        raise Broken(f"{len(given.tensors)} outputs of a model with {len(wanted)}")
    for tensor, spec in zip(given.tensors, wanted, strict=True):
        _shape(tensor, spec)


def _shape(tensor: messages.Tensor, spec: TensorSpec) -> None:
    import numpy as np

    found = f"{tensor.dtype} {list(tensor.shape)}"
    if (tensor.dtype, tensor.shape) != (spec.dtype, spec.shape):
        raise Broken(f"{found} for {spec.name!r}, which is {spec.dtype} {list(spec.shape)}")
    count = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
    if len(tensor.data) != count:
        raise Broken(f"{len(tensor.data)} bytes as data of {found}, which has {count}")


def _peak_memory(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    peak = talk.ask(messages.Outputs(), messages.OutputsGiven).peak_rss_bytes
    if peak is None:
        raise Skipped("peak_rss_bytes is null")
    import psutil

    if not 2**16 <= peak <= psutil.virtual_memory().total + psutil.swap_memory().total:
        raise Broken(f"peak_rss_bytes {peak}")


def _same_inputs(
    talk: Talk, specs: tuple[TensorSpec, ...], seed: int, stored: dict[str, object] | None = None
) -> None:
    """The outputs are the inputs that the page defines, bit for bit."""
    import numpy as np

    wanted = make_inputs(specs, seed, stored)  # type: ignore[arg-type]
    given = talk.ask(messages.Outputs(), messages.OutputsGiven)
    if len(given.tensors) != len(specs):
        raise Broken(f"{len(given.tensors)} outputs of a model with {len(specs)}")
    for spec, array, tensor in zip(specs, wanted, given.tensors, strict=True):
        _shape(tensor, spec)
        if array.tobytes() == tensor.data:
            continue
        found = np.frombuffer(tensor.data, array.dtype)
        flat = array.reshape(-1)
        size = array.dtype.itemsize
        at = next(
            i
            for i in range(len(flat))
            if flat[i].tobytes() != tensor.data[i * size : (i + 1) * size]
        )
        raise Broken(
            f"element {at} of {spec.name!r} ({spec.dtype}, content {spec.content!r}, seed {seed}) "
            f"is {found[at]!s} instead of {flat[at]!s}"
        )


def _inputs(subject: Subject, contents: dict[str, str], *seeds: int) -> None:
    for seed in seeds:
        talk = subject.opened(contents=contents, seed=seed)
        talk.ask(messages.Time(calls=1), messages.BlockTimed)
        _same_inputs(talk, subject.model.specs(contents), seed)


def _seeded(subject: Subject) -> None:
    _inputs(subject, {}, 0, 1, 2**31)


def _values(subject: Subject) -> None:
    specs = subject.model.inputs
    _inputs(subject, {spec.name: "1" for spec in specs}, 0)
    each = {}
    for spec in specs:
        size = 1
        for axis in spec.shape:
            size *= axis
        each[spec.name] = ",".join(str(i % 2) for i in range(size))
    _inputs(subject, each, 0)


def _range(subject: Subject) -> None:
    contents = {}
    for spec in subject.model.inputs:
        kind = spec.dtype.rstrip("0123456789")
        contents[spec.name] = RANGES[kind]
    _inputs(subject, contents, 0, 9)


def _own_seed(subject: Subject) -> None:
    _inputs(
        subject, {spec.name: f"random:{i}" for i, spec in enumerate(subject.model.inputs, 5)}, 0
    )


def _stored(subject: Subject) -> None:
    import numpy as np

    specs = subject.model.inputs
    arrays = {
        spec.name: np.arange(np.prod(spec.shape, dtype=np.int64)).reshape(spec.shape) % 2
        for spec in specs
    }
    typed = {spec.name: arrays[spec.name].astype(spec.dtype) for spec in specs}
    path = Path(subject.folder / "inputs.npz")
    np.savez(path, **typed)  # type: ignore[arg-type]  # taken for its options
    contents = {spec.name: f"sha256:{'0' * 64}" for spec in specs}
    talk = subject.opened(contents=contents, stored=path)
    talk.ask(messages.Time(calls=1), messages.BlockTimed)
    _same_inputs(talk, subject.model.specs(contents), 0, dict(typed))


def _operators(subject: Subject) -> None:
    talk = subject.opened()
    talk.ask(messages.Time(calls=2), messages.BlockTimed)
    calls = 5
    begun = time.monotonic_ns()
    profile = talk.ask_optional(
        messages.TimeOperators(calls=calls), messages.OperatorsTimed
    ).profile
    wall_ns = time.monotonic_ns() - begun
    if profile is None:
        raise Skipped("the profile is null: the runtime cannot measure it")
    if profile.calls != calls:
        raise Broken(f"a profile of {profile.calls} calls instead of {calls}")
    if not profile.operators or profile.total_ns <= 0:
        raise Broken(f"{len(profile.operators)} operators, total_ns {profile.total_ns}")
    total = sum(operator.time_ns for operator in profile.operators)
    if min(operator.time_ns for operator in profile.operators) < 0 or total * calls > wall_ns:
        raise Broken(f"operators with a sum of {total} ns a call in {wall_ns} ns")


def _cpus(subject: Subject) -> None:
    if sys.platform != "linux":
        raise Skipped("CPUs of a process are seen on Linux only")
    import psutil

    last = max(os.sched_getaffinity(0))
    with subject.start() as talk:
        talk.request(subject.model.request(), cpus=[last])
        response = talk.any_response()
        if isinstance(response, messages.Failed) and response.kind == "unavailable":
            raise Skipped(f"unavailable: {response.message}")
        if not isinstance(response, messages.SessionOpened):
            raise Broken(f"{type(response).__name__}")
        if "cpus" not in response.settings:
            raise Skipped("the settings do not report cpus, so no run with --cpus uses this worker")
        found = psutil.Process(talk.hello.pid).cpu_affinity()
        if found != [last] or response.settings["cpus"] != str(last):
            raise Broken(f"CPUs {found}, reported as {response.settings['cpus']}, not {last}")


def _pinned(subject: Subject) -> None:
    if sys.platform != "linux":
        raise Skipped("CPUs of a process are seen on Linux only")
    import psutil

    with subject.start() as talk:
        talk.ask_optional(subject.model.request(pinned=True), messages.SessionOpened)
        cpus = psutil.Process(talk.hello.pid).cpu_affinity()
        if len(cpus) != 1:
            raise Broken(f"the worker may use the CPUs {cpus} with one thread")


OPEN, TIME, SEEDED = "open → opened", "time → timed", "Seeded inputs"
OUTPUTS = "outputs → outputs_given"
_SEEDED = ("inputs-seeded",)
SESSION_CHECKS = (
    Check(
        "before-open",
        "failed",
        "A request that cannot be met is answered with failed or refused.",
        _before_open,
        ("hello",),
    ),
    Check(
        "unknown-backend",
        "failed",
        "A backend that the worker does not have is failed or refused.",
        _unknown_backend,
        ("capabilities",),
    ),
    Check(
        "missing-file",
        "failed",
        "A file that is not there is failed or refused.",
        _missing_file,
        ("capabilities",),
    ),
    Check(
        "broken-file",
        "failed",
        "A file that is damaged is failed or refused.",
        _broken_file,
        ("capabilities",),
    ),
    Check(
        "open",
        OPEN,
        "The artifact is loaded: load_ns, settings, placement.",
        _open,
        ("capabilities",),
    ),
    Check(
        "unknown-option",
        OPEN,
        "An option that the backend does not have is refused.",
        _unknown_option,
        ("open",),
    ),
    Check("time", TIME, "One sample for each call, in nanoseconds.", _time, ("open",)),
    Check("bad-block", TIME, "A block of -1 calls is refused.", _bad_block, ("time",)),
    Check("period", TIME, "One call starts every period_ns.", _period, ("time",)),
    Check("readings", TIME, "Readings are differences around the block.", _readings, ("time",)),
    Check("outputs", OUTPUTS, "Type, shape and data of each output.", _outputs, ("time",)),
    Check("peak-memory", OUTPUTS, "The most memory so far, or null.", _peak_memory, ("outputs",)),
    Check(
        "inputs-seeded",
        SEEDED,
        "The inputs are a function of the seed alone.",
        _seeded,
        ("outputs",),
    ),
    Check("inputs-values", SEEDED, "One value everywhere, or one for each.", _values, _SEEDED),
    Check("inputs-range", SEEDED, "Uniform values from LOW to HIGH.", _range, _SEEDED),
    Check("inputs-random", SEEDED, "The formula with the seed of the content.", _own_seed, _SEEDED),
    Check("inputs-file", SEEDED, "The array of that input in the file.", _stored, _SEEDED),
    Check(
        "open-again",
        OPEN,
        "A session that is open is ended first.",
        _open_again,
        _SEEDED,
    ),
    Check(
        "failed-open",
        OPEN,
        "After an open that failed, no session is open.",
        _after_a_failure,
        ("missing-file", "time"),
    ),
    Check(
        "pinned",
        OPEN,
        "The worker first restricts itself to as many CPUs as there are threads.",
        _pinned,
        ("open",),
    ),
    Check(
        "cpus",
        OPEN,
        "The worker restricts itself to these CPUs and reports them in its settings.",
        _cpus,
        ("open",),
    ),
    Check(
        "operators",
        "time_operators → operators_timed",
        "A profile of as many calls, or null.",
        _operators,
        ("time",),
    ),
)
"""Checks with a model."""
