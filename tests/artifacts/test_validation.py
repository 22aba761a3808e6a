"""What is accepted of formats that cannot count a network."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from latbench.api import Counts, Exported, StageError
from latbench.artifacts.validation import checked_counts, countable
from latbench.schema.request import make_request

REQUEST = make_request("net.py:Net")


def counts(macs: int, **operators: int) -> Counts:
    return Counts(macs=macs, parameters=10, parameter_bytes=40, operators=operators)


def model_with(found: Counts) -> Any:
    return SimpleNamespace(counts=lambda: found, resolved=SimpleNamespace(form="deploy"))


def exported_with(found: Counts | None, **details: str) -> Exported:
    return Exported(inputs=(), outputs=(), counts=found, details=details)


RECURRENT = model_with(counts(100, conv=1, recurrent=1))


def test_layers_that_a_format_does_not_show_leave_no_counts() -> None:
    exported = countable(RECURRENT, exported_with(counts(20, conv=1, linear=0)))
    assert exported.counts is None
    assert "recurrent" in exported.details["uncounted"]
    assert checked_counts(RECURRENT, exported, REQUEST) == RECURRENT.counts()


def test_layers_as_many_products_are_compared_by_their_work() -> None:
    exported = countable(RECURRENT, exported_with(counts(100, conv=1, linear=14)))
    assert exported.counts == counts(100, conv=1, linear=14)
    assert checked_counts(RECURRENT, exported, REQUEST) == RECURRENT.counts()


def test_layers_that_lost_work_are_still_refused() -> None:
    exported = countable(RECURRENT, exported_with(counts(90, conv=1, recurrent=1)))
    with pytest.raises(StageError, match="multiply-accumulates"):
        checked_counts(RECURRENT, exported, REQUEST)


def test_a_network_without_such_layers_is_compared_as_ever() -> None:
    model = model_with(counts(100, conv=2))
    exported = countable(model, exported_with(counts(90, conv=1)))
    with pytest.raises(StageError, match="operators"):
        checked_counts(model, exported, REQUEST)


def test_unknown_counts_have_a_reason() -> None:
    model = model_with(counts(100, conv=2))
    assert countable(model, exported_with(None)).details["uncounted"]
    named = countable(model, exported_with(None, uncounted="Einsum"))
    assert named.details["uncounted"] == "Einsum"
    assert checked_counts(model, named, REQUEST) == model.counts()
    assert checked_counts(model, replace(named, from_module=False), REQUEST) is None
