"""Required placement: every operator on one of the units that the user names, or a failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from latbench.api import Runner
from latbench.errors import StageError, UnfitError, UsageError, listed, suggest
from latbench.plugins import load_runner, runner_names, unit_names
from latbench.schema.request import Request
from latbench.schema.trace import Placement

DOCUMENTED = "docs/BACKENDS.md says what each backend can prove"


@dataclass(frozen=True, kw_only=True)
class RequiredUnits:
    """The units on which every operator must run, and the names that units have."""

    names: tuple[str, ...] = ()
    """In lower case; empty: any unit will do."""
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Unit -> further names, as a runner declares them."""

    def check(self, backend: str, placement: Placement) -> None:
        """Raise :class:`StageError` unless the operators are on the required units.

        A placement that the runtime reports before execution counts: some runtimes report no other.
        """
        if not self.names:
            return
        wanted = " or ".join(self.names)
        if placement.known == "unknown" or not placement.units:
            reason = f" ({placement.note})" if placement.note else ""
            raise StageError(
                "open",
                f"{backend} cannot prove where the operators run{reason}, and {wanted} is required",
                hint=f"to prove it, use a runtime that reports the placement: {DOCUMENTED}",
                kind="mismatch",
            )
        if elsewhere := [unit for unit in placement.units if self._is_elsewhere(unit, placement)]:
            raise StageError(
                "open",
                f"{wanted} is required, and {listed(_on(unit, placement) for unit in elsewhere)}",
                hint="omit --require to time it as it is, or see the options of the backend: "
                f"latbench backends {backend}",
                kind="mismatch",
                detail=_operators(elsewhere, placement),
            )

    def _is_elsewhere(self, unit: str, placement: Placement) -> bool:
        return placement.units[unit] != 0 and names_of(unit, self.also).isdisjoint(self.names)


def required_units(request: Request, runner: Runner) -> RequiredUnits:
    """What ``request`` requires of ``runner``. Raise :class:`UsageError` for an unknown unit, and
    its :class:`UnfitError` for one that only other backends have."""
    also = unit_names(runner)
    known = {name for unit in also for name in names_of(unit, also)}
    # A provider, device or delegate that the user chooses is a unit too.
    known |= {name for value in request.options.values() for name in names_of(value, {})}
    for name in request.require:
        if name in known:
            continue
        message = f"backend {runner.name!r} has no unit {name!r}"
        others = [each for each in runner_names() if name in _known_to(each)]
        if others:
            raise UnfitError(message, hint=f"backends that have it: {listed(others)}")
        raise UsageError(message, hint=suggest(name, known - {""}))
    return RequiredUnits(names=request.require, also=also)


def names_of(unit: str, also: Mapping[str, tuple[str, ...]]) -> set[str]:
    """All names of a unit in lower case: its own, those declared, and the name of a file.

    ``GPU.0`` is a ``gpu``, and a delegate is also called by its library's name.
    """
    path = PurePath(unit)
    more = also.get(unit, also.get(path.stem, also.get("", ())))
    return {name.lower() for name in (unit, path.name, path.stem, *more) if name}


def _known_to(backend: str) -> set[str]:
    try:
        also = unit_names(load_runner(backend))
    except UsageError:
        return set()
    return {name for unit in also for name in names_of(unit, also)}


def _on(unit: str, placement: Placement) -> str:
    count = placement.units[unit]
    if count is None:
        return f"operators run on {unit}"
    some = ", ".join((placement.examples or {}).get(unit, ())[:3])
    named = f" ({some}{', …' if count > 3 else ''})" if some else ""
    return f"{count} operator{'' if count == 1 else 's'}{named} run{'s' * (count == 1)} on {unit}"


def _operators(units: Iterable[str], placement: Placement) -> str | None:
    """A line for each operator that has a name, and how many more there are."""
    lines = []
    for unit in units:
        named = (placement.examples or {}).get(unit, ())
        lines += [f"{name} on {unit}" for name in named]
        count = placement.units[unit]
        if named and count is not None and count > len(named):
            lines.append(f"and {count - len(named)} more on {unit}")
    return "\n".join(lines) or None
