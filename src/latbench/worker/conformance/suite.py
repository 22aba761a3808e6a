"""The checks in order, and their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from latbench.worker import messages
from latbench.worker.conformance.models import IdentityModel
from latbench.worker.conformance.talk import Broken, Deadline, Skipped, Talk

CheckOutcome = Literal["ok", "failed", "skipped"]


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one check."""

    name: str
    section: str
    """Heading of ``docs/PROTOCOL.md``."""
    rule: str
    """What the page says there."""
    outcome: CheckOutcome
    sent: str | None = None
    """For a failure: what was sent last."""
    came: str | None = None
    """For a failure: what the worker did."""
    reason: str | None = None
    """Why it was skipped."""


class Subject:
    """The program that is checked. Checks that do not end a worker share one.

    ``script`` is the command line of the program that executes scripts, without verb and folder;
    ``folder`` is for files of the checks.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        model: IdentityModel | None = None,
        script: Sequence[str] | None = None,
    ) -> None:
        self.command = tuple(command)
        self.script = None if script is None else tuple(script)
        self.folder = folder
        self.deadline = Deadline(timeout_s)
        self.strays: list[str] = []
        self._noted = ""
        self._model = model
        self._shared: Talk | None = None
        self._last: Talk | None = None

    @property
    def model(self) -> IdentityModel:
        """The model whose outputs are its inputs. Raises :class:`Skipped` without one."""
        if self._model is None:
            raise Skipped("no model to open: give --backend, --artifact and --shape")
        return self._model

    def use(self, model: IdentityModel) -> None:
        """Check with ``model``, unless the user has given another one."""
        self._model = self._model or model

    @property
    def has_model(self) -> bool:
        """Whether there is a model to open."""
        return self._model is not None

    def start(self, variables: Mapping[str, str] | None = None) -> Talk:
        """A worker of its own that has said hello."""
        talk = self._last = Talk(self.command, self.deadline, self.strays, variables)
        try:
            _ = talk.hello
        except BaseException:
            talk.end()
            raise
        return talk

    def shared(self) -> Talk:
        """The worker that checks share."""
        if self._shared is None:
            self._shared = self.start()
        self._last = self._shared
        return self._shared

    def opened(self, **changes: object) -> Talk:
        """The shared worker with a new session; arguments as for :meth:`IdentityModel.request`."""
        talk = self.shared()
        request = self.model.request(**changes)  # type: ignore[arg-type]
        talk.ask(request, messages.SessionOpened)
        return talk

    def last_sent(self) -> str:
        """What was sent or started last."""
        return self._noted or (self._last.sent if self._last else "nothing")

    def note(self, started: str) -> None:
        """Remember the command line that was started instead of a line that was sent."""
        self._noted = started

    def drop(self) -> None:
        """End the shared worker; the next check starts another."""
        if self._shared is not None:
            self._shared.end()
            self._shared = None


@dataclass(frozen=True)
class Check:
    """One rule of the protocol. ``after`` names checks without which it says nothing."""

    name: str
    section: str
    rule: str
    run: Callable[[Subject], None]
    after: tuple[str, ...] = ()


def run_checks(
    subject: Subject,
    checks: Iterable[Check],
    on_start: Callable[[Check], None] = lambda check: None,
) -> tuple[CheckResult, ...]:
    """Perform the checks in order, each within the deadline of ``subject``.

    ``on_start`` receives each check before it begins. A check whose ground is missing is skipped,
    so that one broken rule is one failure.
    """
    results: dict[str, CheckResult] = {}
    try:
        for check in checks:
            on_start(check)
            missing = [name for name in check.after if results[name].outcome != "ok"]
            if missing:
                result = _result(check, "skipped", reason=f"{missing[0]} comes first")
            else:
                result = _performed(subject, check)
            results[check.name] = result
    finally:
        subject.drop()
    return tuple(results.values())


def _performed(subject: Subject, check: Check) -> CheckResult:
    subject.deadline.renew()
    subject.note("")
    try:
        check.run(subject)
    except Skipped as skipped:
        return _result(check, "skipped", reason=str(skipped))
    except Broken as broken:
        # What the worker does next may still answer the old request.
        subject.drop()
        return _result(check, "failed", sent=subject.last_sent(), came=str(broken))
    return _result(check, "ok")


def _result(check: Check, outcome: CheckOutcome, **more: str) -> CheckResult:
    return CheckResult(
        name=check.name, section=check.section, rule=check.rule, outcome=outcome, **more
    )


def wait_until(
    condition: Callable[[], bool], subject: Subject, within_s: float, otherwise: str
) -> None:
    """Wait for ``condition``. Raises :class:`Broken` with the text ``otherwise``."""
    until = time.monotonic() + min(within_s, subject.deadline.left_s())
    while not condition():
        if time.monotonic() >= until:
            raise Broken(otherwise)
        time.sleep(0.02)


def process_state(pid: int) -> str | None:
    """``running``, ``sleeping``, ``stopped``, …; ``None`` if there is no such process."""
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        state = psutil.Process(pid).status()
        return None if state == psutil.STATUS_ZOMBIE else str(state)
    return None
