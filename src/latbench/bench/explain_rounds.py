"""The measurements of ``explain``: setups measured in rounds, each as a stored record."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.summary import summarize
from latbench.attribution.decomposition import Alternative, Key, Round
from latbench.attribution.setup import Setup, limited
from latbench.bench.measure import measure_request
from latbench.bench.prepare import ResolvedRequest, resolve_request
from latbench.errors import LatbenchError, RegistryError
from latbench.events import Events, Warn
from latbench.schema.record import Record

if TYPE_CHECKING:
    from latbench.bench.context import RunContext
    from latbench.devices.measured import MeasuredDevice


class Measuring:
    """Measures setups in rounds; one that fails is left out from then on."""

    def __init__(
        self, setups: Mapping[Key, Setup], budget_s: float, device: MeasuredDevice
    ) -> None:
        self._setups = dict(setups)
        self._budget_ns = round(budget_s * 1e9)
        self.device = device
        self._resolved: dict[Key, ResolvedRequest] = {}
        self._doubted = 0
        self.notes: list[str] = []

    def resolved(self, key: Key) -> ResolvedRequest:
        """The request of a setup, resolved on first use. Raises :class:`UsageError`."""
        if key not in self._resolved:
            setup = self._setups[key]
            local = self.device.link is None
            request = msgspec.structs.replace(
                setup.request,
                protocol=setup.protocol.label,
                device=setup.request.device if local else self.device.row.id,
            )
            self._resolved[key] = resolve_request(request, self.device)
        return self._resolved[key]

    def rounds(self, number: int, order_seed: int, context: RunContext) -> list[Round]:
        """The complete rounds: nothing of an interrupted one counts."""
        draw = random.Random(order_seed)  # noqa: S311 - an order, no secret
        done: list[Round] = []
        try:
            for i in range(number):
                order = list(self._setups)
                draw.shuffle(order)
                found: dict[Key, Record] = {}
                for j, key in enumerate(order):
                    context.events.step(
                        f"round {i + 1} of {number}, {j + 1} of {len(order)}: {named(key)}"
                    )
                    record = self._measured(key, context)
                    if record is not None:
                        found[key] = record
                if found:
                    done.append(found)
        except KeyboardInterrupt:
            self.notes.append(f"interrupted: {len(done)} complete rounds of {number} count")
        if self._doubted:
            self.notes.append(
                f"{self._doubted} of the measurements are unreliable by themselves "
                "(latbench show gives the reasons)"
            )
        return done

    def _measured(self, key: Key, context: RunContext) -> Record | None:
        """A record, or ``None``, and the setup is never tried again."""
        protocol = limited(self._setups[key].protocol, self._budget_ns)
        quiet = Events(warn=context.events.warn)
        try:
            record = measure_request(self.resolved(key), protocol, replace(context, events=quiet))
        except RegistryError:
            raise
        except LatbenchError as error:
            self._leave_out(key, error.message)
            return None
        if record.outcome.status == "interrupted":
            raise KeyboardInterrupt
        if record.outcome.failure is not None:
            self._leave_out(key, record.outcome.failure.message)
            return None
        summary = summarize(record)
        self._doubted += summary is not None and summary.reliability == "unreliable"
        return record

    def _leave_out(self, key: Key, why: str) -> None:
        del self._setups[key]
        self.notes.append(f"{named(key)} could not be measured: {why}")


def named(key: Key) -> str:
    """Return the name of a configuration for messages."""
    if isinstance(key, Alternative):
        return f"{key.factor} {key.value}"
    return f"B's {', '.join(sorted(key))}" if key else "as recorded"


class WarnOnce:
    """Passes every message on once."""

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._seen: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._seen:
            self._seen.add(message)
            self._warn(message)
