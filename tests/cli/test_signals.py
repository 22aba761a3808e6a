"""Signals to commands that measure: the first ends in order, a later second one at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STUBBORN = """
import signal, sys, time
from latbench.cli import interruption
interruption.SAME_REQUEST_S = float(sys.argv[1])
with interruption.interrupted_once() as interrupted:
    say = "ready"
    while say:
        try:
            print(say, flush=True)
            sys.stdin.read()
            say = None
        except KeyboardInterrupt:
            say = "asked"
print(interrupted(), flush=True)
"""


DEFAULTS = """
import os, signal, sys
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(each, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Starts a program with the usual signals, also where these tests run under nohup."""


def stubborn(same_request_s: float, *before: str) -> subprocess.Popen[str]:
    """A program that goes on after a signal, until the end of its input."""
    running = subprocess.Popen(
        [
            *(sys.executable, "-c", DEFAULTS),
            *before,
            *(sys.executable, "-c", STUBBORN, str(same_request_s)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_ends_it(first: signal.Signals, second: signal.Signals) -> None:
    running = stubborn(0)
    running.send_signal(first)
    assert running.stdout is not None
    assert running.stdout.readline() == "asked\n"
    running.send_signal(second)
    assert running.wait(60) == -second
    running.communicate()


def test_a_signal_that_arrives_twice_is_one_request() -> None:
    running = stubborn(600)
    running.send_signal(signal.SIGINT)
    assert running.stdout is not None
    assert running.stdout.readline() == "asked\n"
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "True\n")


def test_nohup_is_respected() -> None:
    running = stubborn(0, "nohup")
    running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGHUP)
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "False\n")
