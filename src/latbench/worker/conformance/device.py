"""Checks of what a worker answers about its machine and does with other workers there."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psutil

from latbench.worker import messages
from latbench.worker.conformance.models import known_models
from latbench.worker.conformance.suite import Check, Subject, process_state, wait_until
from latbench.worker.conformance.talk import (
    AT_ONCE_S,
    Broken,
    Skipped,
)
from latbench.worker.process_tree import HARNESS_MARK, MARK, end_marked, new_mark
from latbench.worker.server import OWNER_TIMEOUT

SILENCE_S = 1.25
UNKNOWN_BACKEND = "no-such-backend"
OWNER = """
import os, subprocess, sys, time
worker = subprocess.Popen(
    sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    start_new_session=True,
)
sys.stdout.buffer.write(worker.stdout.readline())
sys.stdout.flush()
time.sleep(600)
"""
"""A harness that starts the worker of its command line, passes hello on and never ends it."""


def _capabilities(subject: Subject) -> None:
    known = {model.backend: model for model in known_models()}
    own = (subject.model.backend,) if subject.has_model else tuple(known)
    backends = (*own, UNKNOWN_BACKEND)
    told = subject.shared().ask(
        messages.ProbeBackends(backends=backends), messages.CapabilitiesTold
    )
    if set(told.backends) != set(backends):
        raise Broken(f"an answer about {', '.join(told.backends) or 'nothing'}")
    if told.backends[UNKNOWN_BACKEND].available:
        raise Broken(f"the backend {UNKNOWN_BACKEND!r} is available")
    for name, found in told.backends.items():
        if not found.available and not (found.reason or "").strip():
            raise Broken(f"{name!r} is not available, without a reason")
    available = [name for name in own if told.backends[name].available]
    if available and not subject.has_model:
        subject.use(known[available[0]])
    elif not available and subject.has_model:
        raise Broken(f"{own[0]!r} is not available: {told.backends[own[0]].reason}")


def _machine(subject: Subject) -> None:
    request = messages.DescribeMachine(packages=("numpy",))
    told = subject.shared().ask(request, messages.MachineTold).machine
    if told.logical_cpus is not None and told.logical_cpus < 1:
        raise Broken(f"logical_cpus {told.logical_cpus}")
    if told.memory_bytes is not None and told.memory_bytes < 2**20:
        raise Broken(f"memory_bytes {told.memory_bytes}")


def _conditions(subject: Subject) -> None:
    told = subject.shared().ask(messages.ReadConditions(), messages.ConditionsTold).conditions
    if abs(told.unix_ns - time.time_ns()) > 60 * 10**9:
        raise Broken(f"unix_ns {told.unix_ns}; it is {time.time_ns()} now")
    if told.usable_cpus is not None and told.usable_cpus < 1:
        raise Broken(f"usable_cpus {told.usable_cpus}")


@contextmanager
def _peer(variable: str, value: str) -> Iterator[psutil.Process]:
    """A process with a variable, in a session of its own."""
    variables = {**os.environ, variable: value}
    process = subprocess.Popen(["sleep", "600"], env=variables, start_new_session=True)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _signal(subject: Subject) -> None:
    ours = new_mark()
    with subject.start({HARNESS_MARK: ours}) as talk, _peer(HARNESS_MARK, ours) as peer:
        # The kernel shows the variables of a program some time after it has started it.
        wait_until(
            lambda: peer.environ().get(HARNESS_MARK) == ours,
            subject,
            5,
            "no variables are shown_line",
        )

        def send(name: messages.SignalName) -> None:
            request = messages.SignalProcess(pid=peer.pid, signal=name)
            if not talk.ask_optional(request, messages.Signaled).existed:
                raise Broken(f"existed is false for {name!r} of a process that runs")

        for name, state in (("stop", psutil.STATUS_STOPPED), ("continue", psutil.STATUS_SLEEPING)):
            send(name)  # type: ignore[arg-type]
            wait_until(
                lambda state=state: process_state(peer.pid) == state,  # type: ignore[misc]
                subject,
                AT_ONCE_S,
                f"the process is {process_state(peer.pid)} after {name!r}",
            )
        send("kill")
        wait_until(
            lambda: process_state(peer.pid) is None, subject, AT_ONCE_S, "the process still runs"
        )
        gone = messages.SignalProcess(pid=2**22 + 7, signal="kill")
        if talk.ask(gone, messages.Signaled).existed:
            raise Broken("existed is true for a process that does not exist")


def _signal_strangers(subject: Subject) -> None:
    if sys.platform != "linux":
        raise Skipped("variables of other processes are seen on Linux only")
    with (
        subject.start({HARNESS_MARK: new_mark()}) as talk,
        _peer(HARNESS_MARK, new_mark()) as stranger,
    ):
        talk.request(messages.SignalProcess(pid=stranger.pid, signal="kill"))
        response = talk.any_response()
        if process_state(stranger.pid) is None:
            raise Broken("the process of another harness was killed")
        if not isinstance(response, messages.Refused | messages.Failed):
            raise Broken(f"{type(response).__name__} for a process of another harness")


def _reserve(subject: Subject) -> None:
    request = messages.ReserveDevice(path=str(subject.folder / "device.lock"), owner="the first")
    with subject.start() as two:
        with subject.start() as one:
            one.ask_optional(request, messages.DeviceReserved)
            two.request(msgspec.structs.replace(request, owner="the second"))
            response = two.any_response()
            if not isinstance(response, messages.Failed) or response.kind != "unavailable":
                raise Broken(f"{type(response).__name__} while another worker holds the lock")
            if "the first" not in response.message:
                raise Broken(f"{response.message!r}, which does not name the owner")
        two.ask(request, messages.DeviceReserved)


def _ends_what_it_started(subject: Subject) -> None:
    if sys.platform != "linux":
        raise Skipped("variables of other processes are seen on Linux only")
    with subject.start() as talk, _peer(MARK, talk.mark) as child:
        wait_until(lambda: MARK in child.environ(), subject, 5, "no variables are shown_line")
        talk.hang_up()
        talk.ended(AT_ONCE_S)
        wait_until(
            lambda: process_state(child.pid) is None,
            subject,
            AT_ONCE_S,
            "a process with the LATBENCH_WORKER of the worker still runs",
        )


def _owner_timeout(subject: Subject) -> None:
    ours = new_mark()
    with (
        _peer(HARNESS_MARK, ours) as peer,
        subject.start({OWNER_TIMEOUT: f"{SILENCE_S:g}", HARNESS_MARK: ours}) as talk,
    ):
        for _ in range(6):
            talk.send(b"\n")
            time.sleep(SILENCE_S / 4)
        if talk.process.poll() is not None:
            raise Broken("the worker ended in spite of empty lines")
        talk.ended(SILENCE_S + AT_ONCE_S)
        if sys.platform == "linux":
            wait_until(
                lambda: process_state(peer.pid) is None,
                subject,
                AT_ONCE_S,
                "another worker of the same harness still runs",
            )


def _stopped(subject: Subject) -> None:
    """A worker that is stopped while its harness is killed."""
    command = [sys.executable, "-c", OWNER, *subject.command]
    mark = new_mark()
    variables = {**os.environ, MARK: mark}
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, env=variables)
    pid = 0
    try:
        assert owner.stdout is not None
        if not select.select([owner.stdout], [], [], subject.deadline.left_s())[0]:
            raise Broken("no hello")
        # The harness passes it on as a whole.
        hello = msgspec.json.decode(owner.stdout.readline(), type=messages.Hello)
        pid = hello.pid
        if not hello.stoppable:
            raise Skipped("the worker says that it is not stoppable")
        os.killpg(pid, signal.SIGSTOP)
        wait_until(
            lambda: process_state(pid) == psutil.STATUS_STOPPED, subject, 5, "it does not stop"
        )
        owner.kill()
        wait_until(
            lambda: process_state(pid) is None,
            subject,
            AT_ONCE_S,
            f"the worker is {process_state(pid)} after its harness was killed",
        )
    finally:
        owner.kill()
        owner.communicate()
        if pid and process_state(pid) is not None:
            os.killpg(pid, signal.SIGKILL)
        end_marked(mark)


MACHINE = "machine, conditions, capabilities"
OTHERS = "signal, reserve"
DEVICE_CHECKS = (
    Check(
        "capabilities",
        MACHINE,
        "A response about every requested backend is required.",
        _capabilities,
        ("hello",),
    ),
    Check("machine", MACHINE, "Facts of the machine as in FORMAT.", _machine, ("hello",)),
    Check("conditions", MACHINE, "Conditions as in FORMAT.", _conditions, ("hello",)),
    Check("signal", OTHERS, "Stop, continue or kill another worker.", _signal, ("hello",)),
    Check(
        "signal-strangers",
        OTHERS,
        "The worker refuses a process that is not of the same harness.",
        _signal_strangers,
        ("signal",),
    ),
    Check(
        "reserve",
        OTHERS,
        "reserve fails (unavailable, with the owner) if another process holds the lock.",
        _reserve,
        ("hello",),
    ),
    Check(
        "children",
        "Workers on a device",
        "A worker whose input ends kills what has its LATBENCH_WORKER.",
        _ends_what_it_started,
        ("hello",),
    ),
    Check(
        "owner-timeout",
        "Workers on a device",
        "The worker ends if nothing arrives on its input for LATBENCH_OWNER_TIMEOUT_S.",
        _owner_timeout,
        ("hello",),
    ),
    Check(
        "stoppable",
        "hello",
        "stoppable says that the worker ends with its owner even while it is stopped.",
        _stopped,
        ("hello",),
    ),
)
"""Checks without a session."""
