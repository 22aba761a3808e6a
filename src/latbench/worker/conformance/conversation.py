"""Checks of lines: how a worker speaks, and how it stops."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import suppress

import msgspec
import psutil

from latbench.worker import messages
from latbench.worker.conformance.suite import Check, Subject
from latbench.worker.conformance.talk import AT_ONCE_S, Broken, Skipped, Talk
from latbench.worker.process_tree import MARK

PROBE = messages.ProbeBackends(backends=())
LONG = 2**17
"""Length of a request that no pipe holds at once."""
LONG_BLOCK_S = 60.0
"""How long the block lasts in which the input ends."""
MOST_CALLS = 1_000_000
"""A worker need not take more."""
WAIT_PERIOD_NS = 20_000_000_000


def _hello(subject: Subject) -> None:
    protocol = subject.shared().hello.protocol
    if protocol != messages.VERSION:
        raise Broken(f"protocol {protocol}; this latbench speaks {messages.VERSION}")


def _pid(subject: Subject) -> None:
    talk = subject.shared()
    pid = talk.hello.pid
    try:
        process = psutil.Process(pid)
        mine = os.getsid(pid) == talk.process.pid
    except (psutil.Error, OSError, OverflowError, ValueError):
        raise Broken(f"pid {pid}, which is not a process") from None
    with suppress(psutil.AccessDenied):
        mine = mine or process.environ().get(MARK) == talk.mark
    if not mine:
        raise Broken(f"pid {pid}, which is {process.name()!r} and not the worker")


def _unknown_fields(subject: Subject) -> None:
    subject.shared().ask(PROBE, messages.CapabilitiesTold, news=[1, {"a": None}])


def _ends(subject: Subject, line: bytes) -> None:
    with subject.start() as talk:
        talk.send(line)
        talk.ends_unanswered()


def _unknown_type(subject: Subject) -> None:
    _ends(subject, b'{"type":"unheard_of"}\n')


def _not_json(subject: Subject) -> None:
    _ends(subject, b"{this is not JSON\n")


def _no_object(subject: Subject) -> None:
    _ends(subject, b"[1]\n")


def _empty_line(subject: Subject) -> None:
    talk = subject.shared()
    talk.send(b"\n\n")
    talk.no_answer(0.3)
    talk.ask(PROBE, messages.CapabilitiesTold)


def _pieces(subject: Subject) -> None:
    talk = subject.shared()
    line = msgspec.json.encode(PROBE)
    talk.send(line[:9])
    talk.no_answer(0.2)
    talk.send(line[9:] + b"\n")
    talk.response(messages.CapabilitiesTold)


def _in_order(subject: Subject) -> None:
    talk = subject.shared()
    early = messages.Time(calls=1)  # No session is open yet.
    asked = (PROBE, early, early, PROBE, early)
    talk.send(b"".join(msgspec.json.encode(each) + b"\n" for each in asked))
    for number, each in enumerate(asked, 1):
        response = talk.any_response()
        if isinstance(response, messages.CapabilitiesTold) != (each is PROBE):
            raise Broken(f"{type(response).__name__} as the answer to request {number}")


def _long_request(subject: Subject) -> None:
    subject.shared().ask(PROBE, messages.CapabilitiesTold, padding="x" * LONG)


def _end_of_input(subject: Subject) -> None:
    with subject.start() as talk:
        talk.hang_up()
        talk.ended(AT_ONCE_S)


def _end_of_input_in_a_block(subject: Subject) -> None:
    _hang_up_during(subject, None)


def _end_of_input_in_a_wait(subject: Subject) -> None:
    _hang_up_during(subject, WAIT_PERIOD_NS)


def _hang_up_during(subject: Subject, period_ns: int | None) -> None:
    with subject.start() as talk:
        talk.ask(subject.model.request(), messages.SessionOpened)
        calls = 10 if period_ns else _calls_of(talk)
        talk.request(messages.Time(calls=calls, period_ns=period_ns))
        try:
            talk.no_answer(0.3)
        except Broken as broken:
            if period_ns is None:
                raise Skipped("a block of the model is too short to interrupt it") from None
            raise broken
        talk.hang_up()
        talk.ended(AT_ONCE_S)


def _calls_of(talk: Talk) -> int:
    timed = talk.ask(messages.Time(calls=50), messages.BlockTimed)
    call_s = max(statistics.median(timed.sample_ns), 100) / 1e9
    return max(50, min(MOST_CALLS, int(LONG_BLOCK_S / call_s)))


def _close(subject: Subject) -> None:
    with subject.start() as talk:
        if subject.has_model:
            talk.request(subject.model.request())
            talk.any_response()
        talk.ask(messages.Close(), messages.Closed)
        status = talk.ended(AT_ONCE_S)
        if status != 0:
            raise Broken(f"the worker ended with status {status}")


def _only_responses(subject: Subject) -> None:
    time.sleep(0.05)
    subject.shared().look()
    if subject.strays:
        raise Broken(f"{len(subject.strays)} more lines, the first is {subject.strays[0]}")


LINES = "Lines"
ANSWERS = ("unknown-fields",)
CONVERSATION_CHECKS = (
    Check("hello", "hello", "The worker speaks first: hello, with its protocol.", _hello),
    Check("pid", "hello", "pid is the worker's process.", _pid, ("hello",)),
    Check("unknown-fields", LINES, "Unknown fields are ignored.", _unknown_fields, ("hello",)),
    Check("empty-line", LINES, "An empty line has no response.", _empty_line, ANSWERS),
    Check("pieces", LINES, "A line may arrive in pieces.", _pieces, ANSWERS),
    Check("in-order", LINES, "Every request has one response, in order.", _in_order, ANSWERS),
    Check("long-request", LINES, "A request may be long.", _long_request, ("pieces",)),
    Check("unknown-type", LINES, "An unknown type ends the conversation.", _unknown_type, ANSWERS),
    Check("not-json", LINES, "A line that is not JSON ends the conversation.", _not_json, ANSWERS),
    Check("no-object", LINES, "A line that is not an object ends it too.", _no_object, ANSWERS),
)
"""Checks that need no model."""
ENDS_CHECKS = (
    Check(
        "end-of-input",
        LINES,
        "When standard input ends, the worker exits at once.",
        _end_of_input,
        ("hello",),
    ),
    Check(
        "end-of-input-in-a-block",
        LINES,
        "When standard input ends, the worker exits at once, also in the middle of an inference.",
        _end_of_input_in_a_block,
        ("end-of-input", "time"),
    ),
    Check(
        "end-of-input-in-a-wait",
        LINES,
        "When standard input ends, the worker exits at once, also between the calls of a period.",
        _end_of_input_in_a_wait,
        ("end-of-input", "period"),
    ),
    Check(
        "close",
        "close → closed",
        "The worker answers closed and exits with status 0.",
        _close,
        ("hello",),
    ),
    Check(
        "only-responses",
        LINES,
        "The worker sends nothing else; whatever is printed goes to standard error.",
        _only_responses,
        ("hello",),
    ),
)
"""The last checks. The very last one looks back at all conversations."""
