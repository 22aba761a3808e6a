"""Worker program ``python -m latbench.worker.inference``: load an artifact, time it in blocks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from latbench.api import (
    PlannedSession,
    ProfiledSession,
    Runner,
    RunOptions,
    SelfTimedSession,
    Session,
    StageError,
    UsageError,
    make_inputs,
)
from latbench.clock import now_ns, time_calls
from latbench.files import read_arrays
from latbench.host.counters import between, snapshot
from latbench.schema.cpu_choice import CPUS_SETTING, cpu_list
from latbench.worker import messages
from latbench.worker.agent import answer_about_machine
from latbench.worker.server import serve


class Worker:
    """Handles the requests of one session."""

    def __init__(self, exits: ExitStack) -> None:
        self._exits = exits
        self._session: Session | None = None
        self._opened_ns = 0
        self._all_cpus: set[int] | None = None
        """Those of this program at its start, once it has restricted itself."""

    def handle(self, request: messages.InferenceRequest) -> messages.Response:
        """Handle one request. Raises :class:`StageError`."""
        match request:
            case messages.Open():
                return self._open(request)
            case messages.Time():
                return self._time(self._live("time"), request)
            case messages.TimeOperators():
                session = self._live("outputs")
                profile = (
                    session.profile(request.calls) if isinstance(session, ProfiledSession) else None
                )
                plan = session.plan() if isinstance(session, PlannedSession) else None
                return messages.OperatorsTimed(profile=profile, plan=plan)
            case messages.Outputs():
                return _outputs(self._live("outputs"))
            case messages.Close():
                self._exits.close()
                return messages.Closed()
            case _:
                return answer_about_machine(request)

    def _open(self, request: messages.Open) -> messages.Response:
        from latbench.plugins import check_options, load_runner

        self._exits.close()
        self._session = None
        cpus = self._restrict(request)
        runner: Runner = load_runner(request.backend)
        check_options(f"backend {request.backend!r}", request.extra, runner.options)
        capability = runner.probe()
        runner.prepare()
        path = request.inputs
        stored = {} if path is None else read_arrays(Path(path), "open", "the inputs")
        inputs = make_inputs(request.artifact.inputs, request.seed, stored)
        start = now_ns()
        self._session = self._exits.enter_context(
            runner.open(
                request.artifact,
                Path(request.path),
                inputs,
                RunOptions(
                    threads=request.threads,
                    seed=request.seed,
                    process=request.process,
                    extra=request.extra,
                ),
            )
        )
        self._opened_ns = now_ns()
        settings = {**self._session.settings(), **cpus}
        return messages.SessionOpened(
            load_ns=self._opened_ns - start,
            # A runner with several runtimes reports the version that it chose.
            version=settings.get("runtime_version", capability.version),
            settings=settings,
            placement=self._session.placement(),
        )

    def _restrict(self, request: messages.Open) -> dict[str, str]:
        """Restrict this process to the requested CPUs; return them as a setting."""
        if request.cpus is None and not request.pinned and self._all_cpus is None:
            return {}
        if not hasattr(os, "sched_setaffinity"):
            raise StageError(
                "open",
                "this system cannot restrict a process to CPUs",
                hint="leave out --cpus, or use another protocol: latbench protocols",
                kind="unavailable",
            )
        if self._all_cpus is None:
            self._all_cpus = os.sched_getaffinity(0)
        cpus = self._all_cpus if request.cpus is None else set(request.cpus)
        try:
            os.sched_setaffinity(0, cpus)
            # The kernel leaves out CPUs that are offline or not allowed, and says nothing.
            given = os.sched_getaffinity(0)
            if given != cpus:
                raise OSError(0, f"the system allows {sorted(given)} of them")
            if request.pinned:
                os.sched_setaffinity(0, sorted(cpus)[-request.threads :])
        except (OSError, ValueError, OverflowError) as error:
            asked = cpu_list(sorted(cpus)) if cpus else "no CPUs"
            raise StageError(
                "open",
                f"the worker cannot be restricted to the CPUs {asked}: "
                f"{getattr(error, 'strerror', None) or error}",
                hint="CPUs that are offline cannot be chosen",
                kind="unavailable",
            ) from error
        return (
            {}
            if request.cpus is None
            else {CPUS_SETTING: cpu_list(sorted(os.sched_getaffinity(0)))}
        )

    def _live(self, action: str) -> Session:
        if self._session is None:
            raise StageError("open", f"{action} was requested before a session was open")
        return self._session

    def _time(self, session: Session, request: messages.Time) -> messages.Response:
        if not 0 <= request.settle <= request.calls:
            raise UsageError(
                f"a block cannot have {request.calls} calls of which {request.settle} are discarded"
            )
        start = now_ns() - self._opened_ns
        beside: dict[str, list[int]] = {}
        settled = _timed(session, request.settle, request.period_ns, beside)
        before = snapshot()
        counted = _timed(session, request.calls - request.settle, request.period_ns, beside)
        readings = between(before, snapshot())
        return messages.BlockTimed(
            start_ns=start,
            sample_ns=(*settled, *counted),
            readings=readings,
            beside_ns={name: tuple(values) for name, values in beside.items()},
        )


def _timed(
    session: Session, calls: int, period_ns: int | None, beside: dict[str, list[int]]
) -> Sequence[int]:
    """Time ``calls`` inferences in nanoseconds; add the times of other clocks to ``beside``."""
    if calls <= 0:
        return ()
    if not isinstance(session, SelfTimedSession):
        return time_calls(session.run, calls, period_ns)
    if period_ns is None:
        elapsed = session.time_block(calls)
        _gather(session, beside)
        return elapsed
    return _at_a_rate(session, calls, period_ns, beside)


def _at_a_rate(
    session: SelfTimedSession, calls: int, period_ns: int, beside: dict[str, list[int]]
) -> list[int]:
    """Time one call per period, by the session's own clock."""
    elapsed: list[int] = []

    def one() -> None:
        elapsed.extend(session.time_block(1))
        _gather(session, beside)

    time_calls(one, calls, period_ns)
    return elapsed


def _gather(session: SelfTimedSession, into: dict[str, list[int]]) -> None:
    """Add the times that other clocks took in the latest block."""
    for name, values in session.beside_ns().items():
        into.setdefault(name, []).extend(values)


def _outputs(session: Session) -> messages.Response:
    import numpy as np

    tensors = []
    for array in session.outputs():
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        tensors.append(
            messages.Tensor(dtype=array.dtype.name, shape=array.shape, data=plain.tobytes())
        )
    return messages.OutputsGiven(tensors=tuple(tensors), peak_rss_bytes=_peak_rss_bytes())


def _peak_rss_bytes() -> int | None:
    if sys.platform == "linux":
        # On Linux ru_maxrss includes the parent's peak from before exec; VmHWM does not.
        with suppress(OSError, StopIteration, ValueError, IndexError):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(x for x in lines if x.startswith("VmHWM:")).split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Serve one session on standard input and output."""
    with ExitStack() as exits:
        decode = msgspec.json.Decoder(messages.InferenceRequest).decode
        serve("latbench-worker", decode, Worker(exits).handle)


if __name__ == "__main__":
    main()
