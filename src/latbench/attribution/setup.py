"""Settings (a request and a protocol) that can be switched one factor at a time."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from latbench.attribution.factors import FORM, OPTION
from latbench.claims.model import Claim
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Record
from latbench.schema.request import Request
from latbench.schema.value import Value

FIELDS: dict[str, tuple[str, ...]] = {
    "backend": ("backend",),
    "precision": ("precision", "calibration"),
    "calibration": ("calibration",),
    "threads": ("threads",),
    "batch": ("batch", "dims"),
    "resolution": ("resolution", "dims"),
    "weights": ("weights", "weights_key", "seed"),
}
"""Factor -> fields of the request that set it."""


class Setup(Value, frozen=True, kw_only=True):
    """The request and protocol that repeat a side's measurement."""

    request: Request
    protocol: TimingProtocol


def setup_of(record: Record) -> Setup:
    """Return the setup of a record, with the number of threads that it really used."""
    settings = record.runtime.settings if record.runtime else {}
    threads = settings.get("threads", "")
    return Setup(
        request=msgspec.structs.replace(
            record.request,
            backend=record.backend,
            device="local",
            threads=int(threads) if threads.isdecimal() else record.request.threads,
        ),
        protocol=record.protocol,
    )


def setup_of_claim(claim: Claim, other: Setup) -> Setup:
    """Return ``other`` with the settings that the source states."""
    had = claim.conditions
    stated = {
        "precision": had.precision,
        "threads": had.threads,
        "batch": had.batch,
        "resolution": None if had.resolution is None else (had.resolution, had.resolution),
    }
    known = {name: value for name, value in stated.items() if value is not None}
    return Setup(
        request=msgspec.structs.replace(other.request, **known),
        protocol=shipped(claim.conditions.protocol) or other.protocol,
    )


def limited(protocol: TimingProtocol, budget_ns: int) -> TimingProtocol:
    """Limit the budget of a protocol with a target, because the rounds provide the interval."""
    if protocol.target_ppm is None:
        return protocol
    budget_ns = min(budget_ns, protocol.budget_ns or budget_ns)
    return msgspec.structs.replace(protocol, budget_ns=budget_ns)


def can_switch(factor: str) -> bool:
    """Whether the factor is a setting that can be switched."""
    return factor in FIELDS or factor in (FORM, "protocol") or factor.startswith(OPTION)


def configured(
    base: Setup, a: Setup, b: Setup, switched: Collection[str], at_b: Collection[str]
) -> Setup:
    """Return ``base`` with each of the ``switched`` factors set to the value of ``b`` or ``a``."""
    setup = base
    for factor in switched:
        setup = switch(setup, factor, b if factor in at_b else a)
    return setup


def switch(setup: Setup, factor: str, to: Setup) -> Setup:
    """Return ``setup`` with one factor set to the value of ``to``."""
    if factor == "protocol":
        return msgspec.structs.replace(setup, protocol=to.protocol)
    if factor in FIELDS:
        fields = {name: getattr(to.request, name) for name in FIELDS[factor]}
    else:
        name = "form" if factor == FORM else factor.removeprefix(OPTION)
        options = {k: v for k, v in setup.request.options.items() if k != name}
        if name in to.request.options:
            options[name] = to.request.options[name]
        fields = {"options": options}
    return msgspec.structs.replace(setup, request=msgspec.structs.replace(setup.request, **fields))
