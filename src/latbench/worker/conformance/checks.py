"""All checks, in the order in which they are performed."""

from __future__ import annotations

from collections.abc import Collection

from latbench.errors import UsageError, suggest
from latbench.worker.conformance.conversation import CONVERSATION_CHECKS, ENDS_CHECKS
from latbench.worker.conformance.device import DEVICE_CHECKS
from latbench.worker.conformance.script import SCRIPT_CHECKS
from latbench.worker.conformance.session import SESSION_CHECKS
from latbench.worker.conformance.suite import Check

CHECKS = (*CONVERSATION_CHECKS, *DEVICE_CHECKS, *SESSION_CHECKS, *SCRIPT_CHECKS, *ENDS_CHECKS)


def selected(names: Collection[str]) -> tuple[Check, ...]:
    """The checks called ``names`` with those that they come after; all without a name.

    Raises :class:`UsageError` for an unknown name.
    """
    after = {check.name: check.after for check in CHECKS}
    wanted: set[str] = set()
    more = list(names)
    while more:
        name = more.pop()
        if name not in after:
            raise UsageError(
                f"unknown check {name!r}",
                hint=suggest(name, after, otherwise="a check of everything lists them"),
            )
        wanted.add(name)
        more += after[name]
    return tuple(check for check in CHECKS if check.name in wanted or not names)
