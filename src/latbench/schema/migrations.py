"""Migrate records from older schemas to the current one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from latbench.schema.protocol import TimingProtocol, protocol_sha256

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _from_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Migrate to schema 2, which has protocols of all kinds; schema 1 had only fixed counts."""
    old = tree["protocol"]
    calls = old["blocks"] * old["block_calls"]
    protocol = {
        "name": old["name"],
        "version": old["version"],
        "what": "the same number of calls whatever the samples say",
        "source": "latbench 0.1.0",
        "processes": old["processes"],
        "max_processes": old["processes"],
        "warmup": "fixed",
        "warmup_calls": old["warmup_calls"],
        "warmup_limit_ns": old["process_budget_ns"] // 4,
        "block_calls": old["block_calls"],
        "min_calls": calls,
        "max_ns": old["process_budget_ns"],
        "statistic": {"kind": "median"},
        "clock": old["clock"],
        "timed_region": old["timed_region"],
    }
    resolved = msgspec.convert(protocol, TimingProtocol)
    return {
        **tree,
        "schema": 2,
        "protocol": msgspec.to_builtins(resolved),
        "protocol_sha256": protocol_sha256(resolved),
        "sentinel": None,
        "interleaved": None,
    }


def _from_2(tree: dict[str, Any]) -> dict[str, Any]:
    """Migrate to schema 3, which adds fields for features that older records did not have."""
    return {**tree, "schema": 3, "fallback": None, "sweep": None}


MIGRATIONS: Mapping[int, Migration] = {1: _from_1, 2: _from_2}
"""Schema -> function that migrates a record to the next schema. The first schema is 1."""
