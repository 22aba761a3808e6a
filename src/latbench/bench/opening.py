"""What a measurement needs open: the device, what its requests refer to, and the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.bench.prepare import ResolvedRequest, resolve_request
from latbench.devices.measured import MeasuredDevice
from latbench.devices.opening import Devices
from latbench.schema.request import Request

if TYPE_CHECKING:
    from latbench.store.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open device and registry, and requests for the device, resolved."""

    device: MeasuredDevice
    requests: tuple[ResolvedRequest, ...]
    registry: Registry


@contextmanager
def opened(
    requests: tuple[Request, ...],
    registry: str | None,
    *,
    require: Callable[[MeasuredDevice], None] = lambda device: None,
) -> Iterator[Opened]:
    """Open the device of ``requests``, which is the same for all, and the registry.

    In this order, so that an invalid request creates no registry; ``require`` may refuse the device
    before anything is looked up. Raises :class:`~latbench.UsageError` and
    :class:`~latbench.RegistryError`.
    """
    from latbench.store.registry import Registry

    with ExitStack() as exits:
        device = exits.enter_context(Devices()).open(requests[0].device)
        require(device)
        resolved = tuple(resolve_request(each, device) for each in requests)
        store = exits.enter_context(Registry.open(registry))
        yield Opened(device=device, requests=resolved, registry=store)
