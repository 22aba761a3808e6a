"""A backend with known truth: seeded traces, and crashes, hangs and wrong outputs on request.

It measures nothing; tests, documentation and golden files use it. The artifact holds the true
latency, and the options define how the trace deviates from it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Placement,
    Runner,
    RunOptions,
    Session,
    StageError,
    UsageError,
    make_inputs,
)

MISBEHAVIORS = ("none", "crash", "exit", "hang", "error", "oom", "lie", "nan", "chatter")
SENTINEL_SHAPE = (1, 3, 8, 8)
"""Input of the sentinel, which misbehaves only if LATBENCH_FAKE_SENTINEL is set."""
STAGES = ("open", "warmup", "time", "outputs")


class FakeRunner:
    """Run files of format ``fake``."""

    name = "fake"
    formats = ("fake",)
    needs: tuple[str, ...] = ()
    options: Mapping[str, str] = {
        "noise": "standard deviation of samples, relative to the true latency (default 0.01)",
        "ar1": "autocorrelation of consecutive samples, 0 to 0.99 (default 0)",
        "warmup": "number of slow calls at the start, from 2x down to 1x (default 5)",
        "between": "relative standard deviation between processes (default 0.005)",
        "draw": "text that seeds all random draws (default 0)",
        "scale": "factor on the true latency (default 1)",
        "shift": "factor on samples after the 100th of a process (default 1)",
        "misbehave": f"one of {', '.join(MISBEHAVIORS)} (default none)",
        "at": f"stage at which to misbehave: {', '.join(STAGES)} (default time)",
        "real_time": "yes, no: make calls take their time (default no)",
    }

    units: Mapping[str, tuple[str, ...]] = {"fake": ()}

    def probe(self) -> Capability:
        """Available unless LATBENCH_FAKE_UNAVAILABLE is set."""
        if os.environ.get("LATBENCH_FAKE_UNAVAILABLE"):
            return Capability(
                available=False, reason="the fake device is unplugged", hint="plug it in"
            )
        return Capability(available=True, version="1", units=("fake",))

    def prepare(self) -> None:
        """Do nothing: there is no runtime to import."""

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Open a session with the latency stored at ``path``. Raises :class:`StageError`."""
        settings = _settings(options)
        if artifact.inputs[0].shape == SENTINEL_SHAPE:
            settings["misbehave"] = os.environ.get("LATBENCH_FAKE_SENTINEL", "none")
        misbehaviour = settings["misbehave"] if settings["at"] == "open" else "none"
        _misbehave(misbehaviour)
        try:
            true_ns = int(json.loads(path.read_text())["latency_ns"])
        except (ValueError, KeyError, TypeError) as error:
            raise StageError("open", f"{path.name} is not a fake artifact: {error}") from error
        draw = random.Random(f"{options.seed}/{settings['draw']}/{options.process}")  # noqa: S311 - a trace, no secret
        yield FakeSession(artifact, true_ns, settings, draw)


class FakeSession:
    """Returns seeded times, as a device that times itself does."""

    def __init__(
        self,
        artifact: Artifact,
        true_ns: int,
        settings: Mapping[str, str],
        draw: random.Random,
    ) -> None:
        self._artifact = artifact
        self._settings = settings
        self._random = draw
        self._level = (
            true_ns
            * float(settings["scale"])
            * (1 + self._random.gauss(0, float(settings["between"])))
        )
        self._noise = 0.0
        self._calls = 0

    def time_block(self, calls: int) -> Sequence[int]:
        if self._settings["at"] == ("warmup" if self._calls < 2 else "time"):
            _misbehave(self._settings["misbehave"])
        return [self._next() for _ in range(calls)]

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        return {}

    def run(self) -> None:
        self._next()

    def outputs(self) -> tuple[Array, ...]:
        import numpy as np

        if self._settings["at"] == "outputs":
            _misbehave(self._settings["misbehave"])
        outputs = make_inputs(self._artifact.outputs, seed=0)
        if self._settings["misbehave"] == "lie":
            return tuple(-array for array in outputs)
        if self._settings["misbehave"] == "nan":
            return tuple(np.full_like(array, np.nan) for array in outputs)
        return outputs

    def placement(self) -> Placement:
        return Placement(units={"fake": None}, known="unknown", note="nothing was executed")

    def settings(self) -> Mapping[str, str]:
        return self._settings

    def _next(self) -> int:
        rho, sigma = float(self._settings["ar1"]), float(self._settings["noise"])
        self._noise = rho * self._noise + (1 - rho**2) ** 0.5 * self._random.gauss(0, sigma)
        warmup = float(self._settings["warmup"])
        slow = 1 - self._calls / warmup if self._calls < warmup else 0.0
        shift = float(self._settings["shift"]) if self._calls > 100 else 1.0
        self._calls += 1
        elapsed = max(1, round(self._level * (1 + slow) * (1 + self._noise) * shift))
        if self._settings["real_time"] == "yes":
            time.sleep(elapsed / 1e9)
        return elapsed


def runner() -> Runner:
    """Entry point."""
    return FakeRunner()


def _settings(options: RunOptions) -> dict[str, str]:
    settings = {
        "threads": str(options.threads),
        "noise": "0.01",
        "ar1": "0",
        "warmup": "5",
        "between": "0.005",
        "draw": "0",
        "scale": "1",
        "shift": "1",
        "misbehave": "none",
        "at": "time",
        "real_time": "no",
        **options.extra,
    }
    if settings["misbehave"] not in MISBEHAVIORS or settings["at"] not in STAGES:
        raise UsageError(
            f"misbehave={settings['misbehave']} at={settings['at']} is invalid",
            hint=f"misbehave: {', '.join(MISBEHAVIORS)}; at: {', '.join(STAGES)}",
        )
    for key in ("noise", "ar1", "warmup", "between", "scale", "shift"):
        try:
            float(settings[key])
        except ValueError:
            raise UsageError(f"option {key} is not a number: {settings[key]!r}") from None
    return settings


def _misbehave(how: str) -> None:
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            print("the fake runtime gave up", file=sys.stderr)  # noqa: T201 - imitates a runtime
            os._exit(7)
        case "hang":
            time.sleep(3600)
        case "error":
            raise StageError("time", "the fake runtime failed", hint="omit option misbehave")
        case "oom":
            raise MemoryError("the fake runtime ran out of memory")
        case "chatter":
            os.write(1, b"a runtime that prints to standard output\n")
