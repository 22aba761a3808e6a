"""Parameters, MACs and graphs of the models that claims are about.

Building a network imports PyTorch and executes the network's code, so a separate program does it
(:mod:`latbench.audit.count_worker`); a crash or a timeout concerns one model only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from latbench.audit.count_cache import CountCache
from latbench.claims.model import ClaimedModel
from latbench.claims.quantities import PrintedValue, parse_count
from latbench.claims.verdict import CountedModel
from latbench.errors import LatbenchError, StageError
from latbench.schema.graph import MergeCheck, Method, Over
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.zoo import catalog

A = TypeVar("A", bound=messages.Message)

PROGRAM = "latbench.audit.count_worker"
TIMEOUT_S = 900.0
"""For each model, and for each network that a method is applied to."""
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""On a busy machine, PyTorch took three times as long with threads that spin while they wait. A
value set by the user has precedence."""


@dataclass(frozen=True, kw_only=True)
class ToCount:
    """One model at one resolution; ``None`` means the model's own resolution."""

    model: ClaimedModel
    resolution: int | None = None
    over: Over | None = None
    """Count MACs at several sizes of this quantity instead of at one size."""
    method: Method | None = None
    """A method that the model stands for: apply it to ``hosts`` instead of counting."""
    hosts: tuple[str, ...] = ()


def count_models(wanted: Iterable[ToCount]) -> dict[ToCount, CountedModel]:
    """Count each model, or report why it cannot be counted. Builds only models without a known
    count."""
    found: dict[ToCount, CountedModel] = {}
    rest: list[ToCount] = []
    for each in wanted:
        known = _known(each)
        if known is None:
            rest.append(each)
        else:
            found[each] = known
    return found | (_built(rest) if rest else {})


def _known(wanted: ToCount) -> CountedModel | None:
    """The counts from the zoo's table or as published; ``None`` if the model must be built."""
    model = wanted.model
    if wanted.method is not None:
        return None
    if model.build is None:
        return _published(model)
    entry = next((entry for entry in catalog.ZOO if entry.name == model.build), None)
    trained = model.form == "trained"
    if (
        wanted.over is not None
        or entry is None
        or not trained
        or wanted.resolution not in (None, *entry.input_shape[1:])
    ):
        return None
    return _counted(model, entry.parameters, None, entry.macs)


def _counted(model: ClaimedModel, trained: int, deployed: int | None, macs: int) -> CountedModel:
    """The counts, unless they show that this is not the network that the claim is about."""
    another = model.another(trained, deployed)
    if another is not None:
        return CountedModel(missing=another)
    parameters = deployed if model.form == "deployed" else trained
    return CountedModel(
        parameters=_exact(parameters) if parameters is not None else None,
        macs=_exact(macs),
        more_macs=model.uncounted.macs if model.uncounted else 0,
    )


def _published(model: ClaimedModel) -> CountedModel:
    counts = model.counts
    if counts is None:
        return CountedModel(missing=model.absent or "nothing builds it")
    return CountedModel(
        parameters=parse_count(counts.parameters) if counts.parameters else None,
        macs=parse_count(counts.macs) if counts.macs else None,
        more_macs=model.uncounted.macs if model.uncounted else 0,
        source=counts.source,
        counted=counts.counted,
    )


def _built(wanted: list[ToCount]) -> dict[ToCount, CountedModel]:
    """Build and count each model in the counting program."""
    with CountingProgram() as program:
        return {
            each: _applied(each, program) if each.method is not None else _count(each, program)
            for each in wanted
        }


def _count(wanted: ToCount, program: CountingProgram) -> CountedModel:
    assert wanted.model.build is not None, "a model without a builder is never built"
    request = messages.CountModel(
        model=wanted.model.build,
        resolution=wanted.resolution if wanted.over is None else None,
        over=wanted.over,
    )
    try:
        found = program.ask(request, messages.ModelCounted)
    except LatbenchError as error:
        return CountedModel(missing=f"it could not be counted: {_reason(error)}")
    counted = _counted(wanted.model, found.trained, found.deployed, found.macs)
    if wanted.over is None or counted.missing is not None:
        return counted
    return CountedModel(growth=found.growth)


def _applied(wanted: ToCount, program: CountingProgram) -> CountedModel:
    """Apply the method to each host. A host that cannot be built does not affect the others."""
    assert wanted.method is not None
    shown = []
    for host in wanted.hosts:
        request = messages.ApplyMethod(method=wanted.method, host=host)
        try:
            graphs = program.ask(request, messages.MethodApplied).graphs
        except LatbenchError as error:
            shown.append(MergeCheck(host=host, missing=_reason(error)))
        else:
            shown.append(MergeCheck(host=host, built=graphs))
    return CountedModel(shown=tuple(shown))


class CountingProgram:
    """The counting program, started for the first response that is not in the cache, and started
    again after it ended."""

    def __init__(self) -> None:
        self._client: WorkerClient | None = None
        self._cache = CountCache(PROGRAM)

    def __enter__(self) -> CountingProgram:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.__exit__(kind, value, tb)

    def ask(self, request: messages.RequestMessage, expect: type[A]) -> A:
        """The response to ``request``. Raises as :meth:`WorkerClient.ask`."""
        known = self._cache.find(request, expect)
        if known is not None:
            return known
        if self._client is not None and self._client.ended:
            self._client.__exit__(None, None, None)
            self._client = None
        if self._client is None:
            environment = {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
            self._client = WorkerClient.with_module(PROGRAM, stage="build", environment=environment)
        response = self._client.ask(request, expect, stage="build", timeout_s=TIMEOUT_S)
        self._cache.keep(request, response)
        return response


def _reason(error: LatbenchError) -> str:
    """Why a model could not be counted."""
    if isinstance(error, StageError) and error.kind == "timeout":
        return f"counting took more than {TIMEOUT_S:g} s"
    if isinstance(error, StageError) and error.kind in ("crash", "out_of_memory"):
        last = (error.detail or "").splitlines()[-1:]
        return f"the counting program ended early ({': '.join([error.message, *last])})"
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _exact(count: int) -> PrintedValue:
    return PrintedValue(value=count, low=count, high=count)
