"""Scripts on a phone: pushed as files, executed launch by launch, and their answers fetched."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from latbench.devices.apple_control import DeviceControl
from latbench.devices.apple_errors import ENDED_BY_SYSTEM, UNLOCK
from latbench.errors import Failure, StageError
from latbench.worker import job_folder as files
from latbench.worker.apple import APP

RETRY_S = 3.0
LOST_S = 60.0
"""So long is waited for a phone that was cut off."""
LEAST_LIMIT_S = 120.0
"""A launch may take so long, whatever is expected: a phone on a wireless network is slow."""


class PhoneScript:
    """A script on a phone. :attr:`answers` holds what was fetched, whatever ends the execution.

    Each part up to the last `close` of a process is a launch of its own, so that a process of the
    protocol is a process of the phone.
    """

    def __init__(
        self,
        control: DeviceControl,
        bundle: str,
        phone: str,
        about: files.JobAbout,
        script: Sequence[files.ScriptLine],
    ) -> None:
        self._control = control
        self._bundle = bundle
        self._phone = phone
        self._about = about
        self._script = tuple(script)
        self._status: files.JobStatus | None = None
        self.answers: dict[int, files.ScriptAnswer] = {}
        self.failure: Failure | None = None
        """Why answers are missing, if they are."""

    def in_order(self) -> list[files.ScriptAnswer]:
        """The answers in the order of the script."""
        return [self.answers[number] for number in sorted(self.answers)]

    def run(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Execute the script up to its end or a failure.

        ``progress`` gets the number of parts that are done, and of all.
        """
        parts = split(self._script)
        until = time.monotonic() + max(self._about.limit_s, LEAST_LIMIT_S)
        try:
            self._push()
            for number, (first, end) in enumerate(parts):
                self._launch(first, end, until)
                if progress is not None:
                    progress(number + 1, len(parts))
                if self._failed() or not self._is_done(end):
                    return
        except StageError as error:
            self.failure = error.failure

    def _push(self) -> None:
        place = f"{self._control.folder()}/in"
        contents = {
            files.JOB: msgspec.json.encode(self._about),
            files.SCRIPT: files.write_script(self._script),
        }
        with tempfile.TemporaryDirectory(prefix="latbench-script-") as temporary:
            for name, content in contents.items():
                source = Path(temporary, name)
                source.write_bytes(content)
                self._control.shell.push(source, f"{place}/{name}")
        size = sum(map(len, contents.values()))
        self._control.copy_to(self._bundle, place, f"Documents/in-{self._about.id}", size=size)

    def _launch(self, first: int, end: int, until: float) -> None:
        """Execute the lines from ``first`` to before ``end``, and fetch the answers."""
        lost: StageError | None = None
        odd: StageError | None = None
        arguments = ("run", self._about.id, f"{first}:{end}")
        try:
            left = max(LEAST_LIMIT_S / 2, until - time.monotonic())
            self._control.launch(self._bundle, arguments, timeout_s=left)
        except StageError as error:
            match error.kind:
                case "unavailable":
                    raise
                case "disconnected" | "timeout":
                    lost = error
                case _:  # An app that ends with another status than 0 may be an error too.
                    odd = error
        self._fetched(until if lost else time.monotonic() + LOST_S, lost)
        if self._is_done(end) or self._failed():
            return
        self.failure = self._why(lost or odd)

    def _fetched(self, until: float, lost: StageError | None) -> None:
        """Fetch the answers; a phone that was cut off is waited for, and so is its app."""
        tried_until = min(until, time.monotonic() + LOST_S)
        while True:
            try:
                if lost is not None and self._control.runs(APP) and time.monotonic() < until:
                    # It goes on without the cable: the phone can be reached again.
                    tried_until = min(until, time.monotonic() + LOST_S)
                    time.sleep(RETRY_S)
                    continue
                self._fetch()
                return
            except StageError as error:
                if error.kind not in ("disconnected", "timeout"):
                    raise
                lost = lost or error
                if time.monotonic() >= tried_until:
                    raise lost from error
                time.sleep(RETRY_S)

    def _fetch(self) -> None:
        self._status, self.answers = fetch_answers(self._control, self._bundle, self._about.id)

    def _is_done(self, end: int) -> bool:
        """Whether the last line before ``end`` was answered; earlier ones may be skipped."""
        return end - 1 in self.answers

    def _failed(self) -> bool:
        """Whether the model has failed, so that what follows would be skipped."""
        status = self._status
        if status is not None and status.state == "failed" and status.failure is not None:
            self.failure = status.failure
            return True
        return False

    def _why(self, told: StageError | None) -> Failure:
        """Why the app ended before the end of its lines, if devicectl has not ``told``."""
        if told is not None:
            return told.failure
        message, hint = (
            f"latbench's app ended without a word on {self._phone}",
            ENDED_BY_SYSTEM,
        )
        if self._status is None and not self.answers:
            message = f"latbench's app did not start its script on {self._phone}"
            hint = "open the app by hand once, and install it again if it does not open"
        try:
            if self._control.locked():
                message = f"{self._phone} was locked, or has restarted, while it measured"
                hint = UNLOCK
        except StageError:
            message = f"{self._phone} can no longer be reached"
            hint = "has it run empty? Connect it to power"
            return Failure(stage="time", kind="disconnected", message=message, hint=hint)
        return Failure(stage="time", kind="crash", message=message, hint=hint)


def fetch_answers(
    control: DeviceControl, bundle: str, id: str
) -> tuple[files.JobStatus | None, dict[int, files.ScriptAnswer]]:
    """The status of a script and its answers so far. Raises :class:`StageError`.

    A status that was cut off says nothing; nor does an answer that was.
    """
    found = control.copy_from(bundle, f"Documents/out-{id}", files.STATUS, files.ANSWERS) or {}
    status = None
    if (told := found.get(files.STATUS)) is not None:
        with suppress(msgspec.DecodeError):
            status = msgspec.json.decode(told, type=files.JobStatus)
    return status, files.read_answers(found.get(files.ANSWERS, b""))


def split(script: Sequence[files.ScriptLine]) -> list[tuple[int, int]]:
    """The parts of a script that are launches of their own: up to where every model is closed.

    What is asked before the first worker and after the last one belongs to its part.
    """
    roles = [*(line.role for line in script), "conditions"]
    ends = [
        number + 1
        for number, line in enumerate(script)
        if line.role == "close" and roles[number + 1] != "close"
    ]
    ends = [*ends[:-1], len(script)] if ends else [len(script)]
    return list(zip([0, *ends[:-1]], ends, strict=True))
