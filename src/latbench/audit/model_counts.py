"""Parameters, MACs and graphs of the models that claims are about, from a program of its own.

Building a network imports PyTorch and executes its code; whatever happens there, the check goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from latbench.claims.model import ClaimedModel
from latbench.claims.quantities import PrintedValue, parse_count
from latbench.claims.verdict import CountedModel
from latbench.schema.graph import (
    Growth,
    MergeCheck,
    Method,
    Over,
)
from latbench.zoo import catalog

TIMEOUT_S = 900
"""Of one program, however many models it has still to count."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads of PyTorch that spin while they wait took three times the time on a machine that is busy.
"""


@dataclass(frozen=True, kw_only=True)
class ToCount:
    """One model at one resolution; ``None`` is the model's own."""

    model: ClaimedModel
    resolution: int | None = None
    over: Over | None = None
    """Over which its MACs are to be counted at several sizes, instead of at one."""
    method: Method | None = None
    """A method that the model stands for, to be shown on ``hosts`` instead of counting anything."""
    hosts: tuple[str, ...] = ()


def count_models(wanted: Iterable[ToCount]) -> dict[ToCount, CountedModel]:
    """What each consists of, or why that is not known. Builds only what no table has."""
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
    """From the zoo's table of exact counts, or from what is published; ``None``: build it."""
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
    """Its counts, unless they are those of another network than the one that is claimed about."""
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
    """From programs as below, which write a line for each.

    Where one ends early another goes on with the rest. One that ended with its first model would
    always do so: it is that model's fault.
    """
    found, rest = {}, wanted
    while rest:
        lines, why = _program(json.dumps([_asked(each) for each in rest]))
        answers = lines or [{"missing": why}]
        for each, got in zip(rest, answers, strict=False):
            found[each] = _understood(each, got)
        rest = rest[len(answers) :]
    return found


def _understood(wanted: ToCount, got: dict[str, Any]) -> CountedModel:
    model = wanted.model
    if wanted.method is not None:
        return CountedModel(shown=_shown(wanted, got))
    if "missing" in got:
        return CountedModel(missing=f"it could not be counted: {got['missing']}")
    counted = _counted(model, got["trained"], got["deployed"], got["macs"])
    if wanted.over is None or counted.missing is not None:
        return counted
    return CountedModel(growth=msgspec.convert(got["growth"], Growth))


def _asked(wanted: ToCount) -> dict[str, Any]:
    if wanted.method is not None:
        return {"method": wanted.method, "hosts": wanted.hosts}
    if wanted.over is not None:
        return {"build": wanted.model.build, "over": wanted.over}
    return {"build": wanted.model.build, "resolution": wanted.resolution}


def _shown(wanted: ToCount, got: dict[str, Any]) -> tuple[MergeCheck, ...]:
    """On each host, or why not."""
    if "missing" in got:
        return tuple(MergeCheck(host=host, missing=got["missing"]) for host in wanted.hosts)
    return msgspec.convert(got["shown"], tuple[MergeCheck, ...])


def _program(asked: str) -> tuple[list[dict[str, Any]], str]:
    """What it wrote, and why it wrote no more."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "latbench.zoo.count_worker"],
            input=asked,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=TIMEOUT_S,
            env={**PATIENT, **os.environ},
        )
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        text = out.decode(errors="replace") if isinstance(out, bytes) else out
        return whole_lines(text), f"counting took more than {TIMEOUT_S} s"
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return whole_lines(done.stdout), f"the counting program ended early ({last})"


def whole_lines(text: str) -> list[dict[str, Any]]:
    """The answers that are whole: the last line may be cut."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _exact(count: int) -> PrintedValue:
    return PrintedValue(value=count, low=count, high=count)
