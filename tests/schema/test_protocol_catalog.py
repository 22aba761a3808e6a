"""Shipped protocols: what their names mean never changes."""

from __future__ import annotations

import json

import msgspec
import pytest

from latbench.errors import UsageError
from latbench.schema.protocol import (
    MS,
    TimingProtocol,
    block_calls,
    protocol_sha256,
)
from latbench.schema.protocol_catalog import FIXED, SHIPPED, WARM
from latbench.schema.protocol_options import changed_protocol, check_protocol, named_protocol
from support.environment import GOLDEN


def test_a_protocol_that_changes_needs_a_new_version() -> None:
    """Golden: records name protocols, and readers look up what the name meant."""
    assert {p.label: protocol_sha256(p) for p in SHIPPED} == json.loads(
        (GOLDEN / "protocols.json").read_text()
    )


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda protocol: protocol.label)
def test_each_is_sound_and_says_where_it_is_from(protocol: TimingProtocol) -> None:
    check_protocol(protocol, 60)
    assert protocol.source
    assert protocol.what
    assert protocol.timed_region
    if not protocol.source.startswith("latbench"):
        assert protocol.assumed
    assert named_protocol(protocol.label) == protocol
    newest = max((p for p in SHIPPED if p.name == protocol.name), key=lambda p: p.version)
    assert named_protocol(protocol.name) == newest
    assert msgspec.json.decode(msgspec.json.encode(protocol), type=TimingProtocol) == protocol


def test_names_are_unique() -> None:
    assert len({protocol.label for protocol in SHIPPED}) == len(SHIPPED)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        named_protocol("latbench-wram@1")
    assert "latbench-warm@1" in (caught.value.hint or "")


def test_changes_change_the_hash() -> None:
    changed = changed_protocol(WARM, budget_s=5, target=0.02)
    assert (changed.budget_ns, changed.target_ppm) == (5_000_000_000, 20_000)
    assert protocol_sha256(changed) != protocol_sha256(WARM)
    assert changed_protocol(WARM) == WARM
    # One that stops at a fixed number of processes goes on beyond it once it has a target.
    assert changed_protocol(FIXED, target=0.01).max_processes > FIXED.processes
    fixed = changed_protocol(WARM, processes=3, warmup_calls=0, calls=7, block_calls=4)
    assert (fixed.processes, fixed.max_processes) == (3, 3)
    assert (fixed.warmup, fixed.warmup_calls, fixed.min_calls, fixed.min_ns) == ("fixed", 0, 7, 0)
    assert (fixed.block_calls, fixed.block_ns) == (4, None)


@pytest.mark.parametrize(
    "change", [{"processes": 0}, {"sessions": 0}, {"block_calls": 0}, {"min_calls": -1}]
)
def test_numbers_with_which_nothing_can_be_timed(change: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        check_protocol(msgspec.structs.replace(FIXED, **change), 60)


@pytest.mark.parametrize(
    ("call_ns", "calls"), [(100, 500), (1 * MS, 30), (10 * MS, 4), (100 * MS, 4), (10**10, 4)]
)
def test_blocks_are_short_but_not_of_settling_calls_alone(call_ns: int, calls: int) -> None:
    assert block_calls(WARM, call_ns) == calls
