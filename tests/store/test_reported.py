"""Results of other tools in the registry."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from latbench.errors import LatbenchError, RegistryError, UsageError
from latbench.reported.tools import read_output
from latbench.schema.reported import (
    SCHEMA,
    ReportedResult,
    StatedFacts,
    convert_reported,
    decode_reported,
    encode_reported,
)
from latbench.store.registry import Registry
from support.records import make_record
from support.tool_outputs import PERF_TEST


def result(id: str = "aaaa", **changes: object) -> ReportedResult:
    found = ReportedResult(
        schema=SCHEMA,
        id=id,
        created_unix_ns=5,
        latbench="1",
        file="c.txt",
        sha256="0" * 64,
        stated=StatedFacts(model="m"),
        result=read_output(PERF_TEST.encode(), "perf_test"),
    )
    return msgspec.structs.replace(found, **changes)


def test_it_is_stored_beside_the_records(tmp_path: Path) -> None:
    with Registry.open(str(tmp_path / "r.db")) as store:
        store.add_many([make_record(id="aabb")], [result("aacc")])
        assert store.count() == 1
        assert store.entry("aac") == result("aacc")
        assert store.entry("aabb").id == "aabb"
        with pytest.raises(UsageError, match="several records begin with 'aa'"):
            store.entry("aa")
        with pytest.raises(UsageError, match="reported by onnxruntime_perf_test, not measured"):
            store.get("aac")
        # A short id is unambiguous among both kinds.
        assert store.short_ids(["aabb"], least=1) == {"aabb": "aab"}


def test_the_same_result_is_refused_and_takes_the_rest_with_it(tmp_path: Path) -> None:
    with Registry.open(str(tmp_path / "r.db")) as store:
        store.add_many([], [result("aaaa")])
        with pytest.raises(RegistryError, match="aaaa is the same result"):
            store.add_many([make_record(id="new")], [result("bbbb")])
        assert store.count() == 0
        store.add_many([], [result("bbbb", stated=StatedFacts(model="m", device="d"))])
        assert [each.id for each in store.reported()] == ["bbbb", "aaaa"]


def test_a_registry_from_before_is_read_as_it_is(tmp_path: Path) -> None:
    url = str(tmp_path / "r.db")
    with Registry.open(url) as store, store._engine.begin() as connection:
        store_of = connection.exec_driver_sql
        store_of("drop table reported")
        store_of("update latbench_version set version_num = '0004'")
    with Registry.open(url, create=False) as store:
        assert store.reported() == ()
        assert store.latest() == ()
    with Registry.open(url) as store:
        store.add_many([], [result()])
        assert store.reported() == (result(),)


def test_stored_form() -> None:
    assert decode_reported(encode_reported(result())) == result()
    tree = msgspec.to_builtins(result())
    for changes, words in (
        ({"schema": SCHEMA + 1}, "newer latbench"),
        ({"file": 1}, "wrong field"),
        ({"created_unix_ns": -1}, "impossible number"),
    ):
        with pytest.raises(LatbenchError, match=words):
            convert_reported({**tree, **changes})
