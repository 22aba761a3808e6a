"""Of many stored records, those are read that a claim may be checked with, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.audit.record_selection import ALIKE, NEWEST, read_for
from latbench.claims.model import Claim, ClaimedModel
from latbench.schema.record import Fallback, Record
from latbench.store.registry import Registry
from support.records import make_record

MODELS = {
    id: ClaimedModel(id=id, name=id, build=build)
    for id, build in (("one", "one"), ("two", "timm:two"), ("other", "other"))
}


def made(i: int, model: str = "one", **changes: Any) -> Record:
    place = {"device": "bench-cpu", **changes}
    return make_record(id=f"{i:026d}", model=model, created_unix_ns=10**18 + i, **place)


def claim(says: dict[str, Any], **changes: Any) -> Claim:
    tree = {
        "id": "planted",
        "model": "one",
        "says": {"metric": "latency", **says},
        "source": {"id": "s", "where": "Table 1"},
        "conditions": {"device": "bench-cpu", "backend": "onnxruntime"},
        "by": "authors",
    }
    return msgspec.convert(tree | changes, Claim)


VALUE = claim({"kind": "value", "figure": "2.30", "unit": "ms"})
LESS = claim({"kind": "ordering", "sense": "less", "against": "two"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(str(tmp_path / "registry.db")) as registry:
        yield registry


def ids(claims: list[Claim], store: Registry) -> set[int]:
    records, unread = read_for(claims, MODELS, store, described={"elsewhere"})
    assert unread == []
    assert len({record.id for record in records}) == len(records)
    return {int(record.id) for record in records}


def test_a_value_is_of_its_device_and_backend(store: Registry) -> None:
    store.add_many(
        [
            made(1),
            made(2, device="elsewhere"),
            made(3, backend="torch"),
            made(4, model="other"),
            made(5, model="timm:two"),
        ]
    )
    assert ids([VALUE], store) == {1}
    assert ids([], store) == set()
    assert (
        ids([claim({"kind": "value", "figure": "1", "unit": "ms"}, unverifiable="no")], store)
        == set()
    )


def test_the_newest_of_each_condition(store: Registry) -> None:
    def in_fp16(record: Record) -> Record:
        assert record.artifact is not None
        artifact = msgspec.structs.replace(record.artifact, precision="fp16")
        return msgspec.structs.replace(record, artifact=artifact)

    old = [in_fp16(made(i)) for i in range(3)]
    store.add_many([*old, *(made(i) for i in range(10, 10 + ALIKE + 3))])
    # Newer ones in another precision do not displace them.
    assert ids([VALUE], store) == {0, 1, 2, *range(13, 10 + ALIKE + 3)}


def test_a_comparison_is_of_any_place_that_has_both(store: Registry) -> None:
    store.add_many(
        [made(1), made(2, device="elsewhere"), made(3, model="timm:two", device="elsewhere")]
    )
    assert ids([LESS], store) == {2, 3}
    store.add_many([made(100 + i, device="elsewhere") for i in range(2 * NEWEST)])
    assert len(ids([LESS], store)) == NEWEST + 1


def test_a_fallback_is_never_read(store: Registry) -> None:
    record = made(1)
    request = msgspec.structs.replace(record.request, backend="coreml")
    fallen = msgspec.structs.replace(
        record, request=request, fallback=Fallback(reason="no Mac", hint=None)
    )
    store.add(fallen)
    assert ids([VALUE, LESS], store) == set()


def test_what_cannot_be_read_is_told(store: Registry, tmp_path: Path) -> None:
    import sqlite3

    store.add_many([made(1), made(2)])
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("update records set body = '{' where id like '%1'")
    records, unread = read_for([VALUE], MODELS, store, described=())
    assert [int(record.id) for record in records] == [2]
    assert len(unread) == 1
    assert "damaged" in unread[0]
