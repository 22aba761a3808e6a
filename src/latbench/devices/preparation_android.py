"""What ``devices prepare`` sets on a phone, by the phone's own programs and without root.

``preparation_android.sh`` does the work as ``preparation.sh`` does for clocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from latbench.errors import UsageError

PROGRAM = "preparation_android.sh"
WIRELESS = re.compile(r"[^:]+:[0-9]+|\[.*\]:[0-9]+|.*\._adb(-tls-connect)?\._tcp\.?")
"""Serials of phones that adb reaches through a network."""


@dataclass(frozen=True, kw_only=True)
class PhoneState:
    """How a phone is to be left while it is measured."""

    stay_awake: bool = False
    """The screen stays on while the phone is plugged in."""
    airplane: bool = False
    brightness: int | None = None
    """From 0 to 255; no longer chosen by the phone itself."""
    fixed_performance: bool = False
    """A clock that the phone holds for long, where its maker has chosen one."""

    @property
    def words(self) -> tuple[str, ...]:
        """Arguments of the program."""
        level = "" if self.brightness is None else str(self.brightness)
        flags = (self.stay_awake, self.airplane, self.fixed_performance)
        stay, airplane, fixed = ("on" if flag else "" for flag in flags)
        return stay, airplane, level, fixed


def check_phone_state(id: str, serial: str | None, asked: PhoneState) -> None:
    """Refuse what the device ``id`` cannot have. Raise :class:`UsageError`.

    ``serial`` is that of a phone, ``None`` for other devices.
    """
    if serial is None:
        raise UsageError(
            f"{id} is not a phone that adb reaches: it has no `settings` program",
            hint="--governor, --frequency and --turbo are for other devices",
        )
    if asked.brightness is not None and not 0 <= asked.brightness <= 255:
        raise UsageError(f"the brightness must be from 0 to 255, not {asked.brightness}")
    if asked.airplane and WIRELESS.fullmatch(serial):
        raise UsageError(
            f"{id} is reached through a network, which --airplane would cut",
            hint="connect it by USB, or leave out --airplane",
        )


def phone_problem(
    id: str, status: int, rows: dict[str, list[list[str]]]
) -> tuple[str, str | None] | None:
    """Message and hint for an exit status of the program that means something else on a phone."""
    names = {word: ", ".join(row[0] for row in found if row) for word, found in rows.items()}
    return {
        64: (
            f"{id} has no fixed-performance mode: its maker has not built it in",
            "leave out --fixed-performance; everything is as it was before",
        ),
        69: (
            f"{id} has no `settings`, `svc` and `cmd` programs",
            "they are part of Android; is it a phone?",
        ),
        73: (
            f"cannot write the journal on {id}",
            "free space in /data/local/tmp there",
        ),
        74: (
            f"{id} does not report its setting {names.get('unreadable') or '?'}",
            "has it started completely? Nothing was changed",
        ),
    }.get(status)
