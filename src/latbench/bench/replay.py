"""From a script and its answers to the values that a live run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import msgspec

from latbench.bench.job import Job, JobRun
from latbench.bench.required_units import RequiredUnits
from latbench.errors import Failure, LatbenchError, Stage, StageError, failure_of
from latbench.schema.environment import Conditions
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Outcome, Runtime
from latbench.schema.trace import Trace
from latbench.worker import messages
from latbench.worker.client import A
from latbench.worker.job_folder import STAGES, ScriptAnswer, ScriptLine, WorkerName

MODELS: tuple[WorkerName, ...] = ("model", "second")
SENTINEL_WORKER: WorkerName = "sentinel"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job has ended before the end of its script."""

    canceled: bool
    failure: Failure


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the answers of one worker are checked against, as in a live run."""

    reference: Path
    """The outputs that it must produce."""
    tolerance: float | None = None
    required: RequiredUnits = field(default_factory=RequiredUnits)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """All that the answers say."""

    outcomes: tuple[Outcome, ...]
    """One for each model, in the order of :data:`MODELS`."""
    runtimes: tuple[Runtime | None, ...]
    before: Conditions | None
    after: Conditions | None
    sentinel_failure: LatbenchError | None

    @property
    def outcome(self) -> Outcome:
        """That of the first model."""
        return self.outcomes[0]

    @property
    def runtime(self) -> Runtime | None:
        """That of the first model."""
        return self.runtimes[0]


def replay(
    script: Sequence[ScriptLine],
    answers: Mapping[int, ScriptAnswer],
    ending: Ending,
    protocol: TimingProtocol,
    expected: Mapping[WorkerName, Expected],
) -> Replayed:
    """Return what was measured. ``ending`` is why answers are missing, if they are.

    If one model of a comparison failed, the other one was interrupted, as in a live run.
    """
    answered = Answered(script, answers)
    runs = {
        name: JobRun(_job(script, name, expected[name]), protocol, 0, answered.clock)
        for name in (*MODELS, SENTINEL_WORKER)
        if any(line.worker == name for line in script)
    }
    for run in runs.values():
        run.start(answered)
    played = _played(script, answered, runs, ending)
    told = answered.conditions()
    canceled = ending.canceled and not played.complete
    sentinel: tuple[Trace, ...] = runs[SENTINEL_WORKER].traces if SENTINEL_WORKER in runs else ()

    def outcome(name: WorkerName) -> Outcome:
        failed = played.failed == name and not canceled
        return Outcome(
            status="measured" if played.complete else "failed" if failed else "interrupted",
            stopped="complete" if played.complete else None,
            traces=runs[name].traces,
            sentinel=sentinel,
            checks=tuple(runs[name].checks),
            failure=played.failure if failed else None,
        )

    models = [name for name in MODELS if name in runs]
    return Replayed(
        outcomes=tuple(outcome(name) for name in models),
        runtimes=tuple(runs[name].runtime for name in models),
        before=told.get(0),
        after=told.get(len(script) - 1),
        sentinel_failure=played.sentinel_failure,
    )


@dataclass(kw_only=True)
class _Played:
    """How far the answers went."""

    failed: WorkerName | None = None
    """The model that failed, or that the first missing answer is of."""
    failure: Failure | None = None
    sentinel_failure: LatbenchError | None = None

    @property
    def complete(self) -> bool:
        """Whether all answers of the models are there."""
        return self.failed is None


def _played(
    script: Sequence[ScriptLine],
    answered: Answered,
    runs: Mapping[WorkerName, JobRun],
    ending: Ending,
) -> _Played:
    """Take each answer."""
    played = _Played()
    for number, line in enumerate(script):
        if line.worker is None or (line.worker == SENTINEL_WORKER and played.sentinel_failure):
            continue
        model: WorkerName = MODELS[0] if line.worker == SENTINEL_WORKER else line.worker
        if answered.is_over(number):
            played.failed = model
            played.failure = msgspec.structs.replace(ending.failure, stage=STAGES[line.role])
            return played
        answered.number = number
        try:
            session = _session(script, number) if line.role == "open" else 0
            _take(runs[line.worker], line, session)
        except LatbenchError as error:
            if line.worker != SENTINEL_WORKER:
                played.failed, played.failure = model, failure_of(error, STAGES[line.role])
                return played
            played.sentinel_failure = error
    return played


def _take(run: JobRun, line: ScriptLine, session: int) -> None:
    """Let ``run`` take the answer to ``line``. Raises :class:`LatbenchError`."""
    match line.request:
        case messages.Open():
            run.load(line.request.process, session, 0)
        case messages.Outputs():
            run.check_outputs()
        case messages.Close():
            run.close()
        case messages.Time() if line.role == "first":
            run.run_first()
        case messages.Time() if line.role == "warmup":
            run.warm_by(line.request.calls)
        case messages.Time():
            run.time_block(line.request.calls - line.request.settle, line.request.settle)


def _session(script: Sequence[ScriptLine], number: int) -> int:
    """Index of the session that the line ``number`` opens, in its process."""
    count = 0
    for line in reversed(script[:number]):
        if line.worker == script[number].worker:
            if line.role == "close":
                break
            count += line.role == "open"
    return count


def _job(script: Sequence[ScriptLine], name: WorkerName, expected: Expected) -> Job:
    request = next(
        line.request
        for line in script
        if line.worker == name and isinstance(line.request, messages.Open)
    )
    return Job(
        backend=request.backend,
        artifact=request.artifact,
        path=PurePath(request.path),
        reference=expected.reference,
        tolerance=expected.tolerance,
        required=expected.required,
        threads=request.threads,
        seed=request.seed,
        extra=dict(request.extra),
        cpus=request.cpus,
    )


class Answered:
    """A worker that answers with what was written on the device."""

    def __init__(self, script: Sequence[ScriptLine], answers: Mapping[int, ScriptAnswer]) -> None:
        self._script = script
        self._answers = answers
        timed = [n for n in answers if n < len(script) and script[n].worker is not None]
        self._last = max(timed, default=-1)
        self.number = 0
        """The line that is taken now."""

    def is_over(self, number: int) -> bool:
        """Whether neither this line nor a later one of a worker was answered."""
        return number > self._last

    def clock(self) -> int:
        """When the line that is taken now was answered."""
        return self._answers[self.number].at_ns if self.number in self._answers else 0

    def ask(
        self, request: messages.RequestMessage, expect: type[A], *, stage: Stage, timeout_s: float
    ) -> A:
        if self.number not in self._answers:
            raise StageError(stage, f"line {self.number} of the script has no answer", kind="crash")
        response = self._read(self.number, stage)
        if isinstance(response, messages.Failed):
            raise StageError.of(response.failure)
        if isinstance(response, messages.Refused):
            raise StageError(stage, response.message, hint=response.hint)
        if not isinstance(response, expect):
            raise StageError(
                stage,
                f"line {self.number} of the script was answered by an unexpected "
                f"{type(response).__name__}",
                kind="crash",
            )
        return response

    def pause(self) -> None:
        """Do nothing: what is replayed does not run."""

    def conditions(self) -> dict[int, Conditions]:
        """The conditions by the line that asked for them."""
        found = {}
        for number in self._answers:
            if number < len(self._script) and self._script[number].role == "conditions":
                response = self._read(number, "probe")
                if isinstance(response, messages.ConditionsTold):
                    found[number] = response.conditions
        return found

    def _read(self, number: int, stage: Stage) -> messages.Response:
        try:
            return messages.decode_response(bytes(self._answers[number].response))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise StageError(
                stage,
                f"the answer to line {number} of the script is not a message: {error}",
                kind="crash",
            ) from error
