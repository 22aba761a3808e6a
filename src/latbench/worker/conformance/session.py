"""Checks of one session: open, time, operators, and those of its outputs."""

from __future__ import annotations

import os
import sys
import time

from latbench.worker import messages
from latbench.worker.conformance.outputs import OUTPUT_CHECKS, same_inputs
from latbench.worker.conformance.suite import Check, Subject
from latbench.worker.conformance.talk import Broken, Skipped, Talk

CALLS, SETTLE = 12, 2
PERIOD_NS = 20_000_000
STEP_NS = 20_000_000
"""Counters of the kernel advance in steps of up to 10 ms, and are read twice."""


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
    same_inputs(talk, subject.model.specs({}), seed=1)


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


OPEN, TIME = "open → opened", "time → timed"
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
    *OUTPUT_CHECKS,
    Check(
        "open-again",
        OPEN,
        "A session that is open is ended first.",
        _open_again,
        ("inputs-seeded",),
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
