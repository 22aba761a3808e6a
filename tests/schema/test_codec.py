"""Records as JSON and samples as blobs: what goes in comes out, and what is damaged is told."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import LatbenchError
from latbench.schema.blobs import (
    pack_json,
    pack_ns,
    unpack_json,
    unpack_ns,
)
from latbench.schema.codec import (
    convert_record,
    decode_record,
    digest,
    encode_record,
)
from latbench.schema.protocol import protocol_sha256
from latbench.schema.record import Record
from support.environment import GOLDEN
from support.records import make_record, make_trace

RECORDS = GOLDEN / "records"
TIMES = st.lists(st.integers(0, 2**32 - 1)) | st.lists(st.integers(0, 2**64 - 1))

values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=5)
)
trees = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(TIMES)
def test_a_blob_gives_back_what_went_in(times: list[int]) -> None:
    assert unpack_ns(pack_ns(times)) == tuple(times)


def test_the_layout_never_changes() -> None:
    blob = pack_ns([1, 256, 2**32 - 1])
    assert blob[:10].hex() == "01040300000000000000"
    assert unpack_ns(bytes.fromhex((RECORDS / "blob-1.hex").read_text())) == (1, 256, 2**32 - 1)
    assert pack_ns([2**32])[:2].hex() == "0108"


@pytest.mark.parametrize("times", [[-1], [2**64]])
def test_what_is_no_time_is_refused(times: list[int]) -> None:
    with pytest.raises(ValueError):
        pack_ns(times)


@given(TIMES, st.data())
def test_a_damaged_blob_never_gives_other_times(times: list[int], data: st.DataObject) -> None:
    blob = bytearray(pack_ns(times))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    # Not every bit of a zlib stream means something; those that do are under its checksum.
    with suppress(LatbenchError):
        assert unpack_ns(bytes(blob)) == tuple(times)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_blob_or_an_error(content: bytes) -> None:
    with suppress(LatbenchError):
        unpack_ns(content)


def test_a_truncated_or_lengthened_blob_is_told() -> None:
    blob = pack_ns(range(1000))
    for damaged in (blob[:-1], blob[:20], blob + b"x", b""):
        with pytest.raises(LatbenchError):
            unpack_ns(damaged)


def test_a_bomb_is_not_unpacked() -> None:
    blob = bytearray(pack_ns([0] * 1000))
    blob[2:10] = (2**40).to_bytes(8, "little")
    with pytest.raises(LatbenchError, match="larger than its bytes can hold"):
        unpack_ns(bytes(blob))


@pytest.mark.parametrize("status", ["measured", "failed", "interrupted"])
def test_a_record_gives_back_what_went_in(status: str) -> None:
    record = make_record(status=status)  # type: ignore[arg-type]
    assert decode_record(encode_record(record)) == record


@given(
    st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=30), max_size=4),
    st.text(),
    st.none() | st.integers(-(2**31), 2**31),
)
def test_any_values_survive(processes: list[list[int]], name: str, mc: int | None) -> None:
    record = make_record(
        model=name, traces=[make_trace(i, values) for i, values in enumerate(processes)]
    )
    before = msgspec.structs.replace(record.environment.before, temperature_mc=mc)
    environment = msgspec.structs.replace(record.environment, before=before)
    record = msgspec.structs.replace(record, environment=environment)
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("path", sorted(RECORDS.glob("schema1-*.json")), ids=lambda path: path.name)
def test_golden_records_are_read_for_ever(path: Path) -> None:
    """Schema 1 knew one kind of protocol; everything else is as it was."""
    old, record = msgspec.json.decode(path.read_bytes()), decode_record(path.read_bytes())
    now = msgspec.json.decode(encode_record(record))
    assert (
        kept({k: v for k, v in old.items() if k not in ("schema", "protocol", "outcome")}, now)
        == []
    )
    for was, trace in zip(old["outcome"]["traces"], record.outcome.traces, strict=True):
        assert [list(block.sample_ns) for block in trace.blocks] == [
            block["sample_ns"] for block in was["blocks"]
        ]
        assert list(trace.warmup_ns) == was["warmup_ns"]
        assert (trace.session, trace.opened_ns) == (0, None)
    protocol = record.protocol
    assert protocol.label == "latbench-fixed@1"
    assert protocol.processes == protocol.max_processes == old["protocol"]["processes"]
    assert protocol.min_calls == old["protocol"]["blocks"] * old["protocol"]["block_calls"]
    assert record.protocol_sha256 == protocol_sha256(protocol)
    assert record.sentinel is record.interleaved is record.outcome.stopped is None


def kept(old: object, new: object, path: str = "") -> list[str]:
    """Where ``new`` does not say what ``old`` said; it may say more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [p for k in old for p in kept(old[k], new.get(k), f"{path}.{k}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            p
            for i, (one, other) in enumerate(zip(old, new, strict=True))
            for p in kept(one, other, f"{path}[{i}]")
        ]
    return [] if old == new else [f"{path}: {old!r} is {new!r}"]


@pytest.mark.parametrize("path", sorted(RECORDS.glob("schema2-*.json")), ids=lambda path: path.name)
def test_golden_records_of_schema_2_say_what_they_said(path: Path) -> None:
    old, record = msgspec.json.decode(path.read_bytes()), decode_record(path.read_bytes())
    del old["schema"]
    assert kept(old, msgspec.json.decode(encode_record(record))) == []
    assert record.fallback is record.sweep is record.outcome.profile is None


@pytest.mark.parametrize("path", sorted(RECORDS.glob("schema3-*.json")), ids=lambda path: path.name)
def test_golden_records_of_today_say_what_they_said(path: Path) -> None:
    """Fields that were added since have their defaults."""
    old, record = msgspec.json.decode(path.read_bytes()), decode_record(path.read_bytes())
    assert kept(old, msgspec.json.decode(encode_record(record))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_ns": [5, -1]}, r"-1 ns in outcome.traces\[0\].blocks\[1\]"),
        ({"sample_ns": [2**62]}, r"4611686018427387904 ns"),
        ({"start_ns": -5}, r"-5 ns in outcome.traces\[0\].blocks\[\*\].start_ns"),
        ({"sample_ns": [1, 2], "settle_calls": 3}, "discards 3 of 2 samples"),
        ({"sample_ns": [1, 2], "beside_ns": {"call": [1]}}, "beside_ns.call has 1 times for 2"),
        ({"sample_ns": [1], "beside_ns": {"call": [-1]}}, r"-1 ns in .*beside_ns.call"),
    ],
)
def test_times_that_no_clock_gives_are_refused(change: dict[str, object], words: str) -> None:
    record = make_record(traces=[make_trace(0, range(1, 30))])
    tree = msgspec.json.decode(encode_record(record))
    tree["outcome"]["traces"][0]["blocks"][1] |= change
    with pytest.raises(LatbenchError, match=words):
        convert_record(tree)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("created_unix_ns",), 2**63),
        (("outcome", "traces", 0, "process"), 2**63),
        (("outcome", "traces", 0, "session"), -1),
        (("protocol", "statistic", "quantile_milli"), 5000),
    ],
)
def test_numbers_that_cannot_be_are_refused(place: tuple[str | int, ...], value: int) -> None:
    tree = msgspec.json.decode(encode_record(make_record(traces=[make_trace(0, range(1, 30))])))
    at = tree
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(LatbenchError, match=f"{value} in .*{place[-1]}"):
        convert_record(tree)


@pytest.mark.parametrize("tree", [{}, {"protocol": {}}, {"protocol": {"blocks": "a"}}])
def test_a_damaged_record_of_an_older_schema_is_told(tree: dict[str, object]) -> None:
    with pytest.raises(LatbenchError, match="wrong field"):
        convert_record({"schema": 1, **tree})


@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda b: b"\x10" + b"\0" * 7 + b))
def test_any_bytes_are_json_in_a_blob_or_an_error(content: bytes) -> None:
    with suppress(LatbenchError):
        unpack_json(content)


def test_json_in_a_blob_comes_back() -> None:
    value = [{"wall_ns": 5, "wait_ns": None}, None]
    assert unpack_json(pack_json(value)) == value
    with pytest.raises(LatbenchError, match="damaged"):
        unpack_json(pack_json(value)[:-3])


def test_there_are_golden_records_of_each_outcome() -> None:
    found = {decode_record(path.read_bytes()).outcome.status for path in RECORDS.glob("*.json")}
    assert found == {"measured", "failed", "interrupted"}


def test_newer_records_are_refused_in_words() -> None:
    newer = encode_record(make_record()).replace(b'"schema":3', b'"schema":7')
    with pytest.raises(LatbenchError, match=r"newer latbench \(schema 7; .* up to 3\)") as caught:
        decode_record(newer)
    assert caught.value.hint == "upgrade latbench"


def test_older_records_are_brought_up_to_date_a_step_at_a_time() -> None:
    """As it will be at schema 5: a renamed field, then a new one."""

    def rename(tree: dict[str, object]) -> dict[str, object]:
        tree = {**tree, "schema": 4}
        tree["backend"] = tree.pop("runtime_name")
        return tree

    def add(tree: dict[str, object]) -> dict[str, object]:
        return {**tree, "schema": 5, "artifact": None}

    old = msgspec.to_builtins(make_record())
    old["runtime_name"] = old.pop("backend")
    del old["artifact"]
    record = convert_record(old, schema=5, migrations={3: rename, 4: add})
    assert (record.backend, record.artifact, record.schema) == ("onnxruntime", None, 5)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": 5}, "$.id"),
        ({"colour": "blue"}, "colour"),
        ({"outcome": {"status": "fine"}}, "$.outcome.status"),
        ({"device": None}, "$.device"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, object], place: str) -> None:
    tree = {**msgspec.to_builtins(make_record()), **change}
    with pytest.raises(LatbenchError) as caught:
        decode_record(json.dumps(tree).encode())
    assert place in caught.value.message


@given(st.binary(max_size=50) | trees.map(lambda tree: json.dumps(tree).encode()))
def test_anything_else_is_an_error_in_words(content: bytes) -> None:
    with pytest.raises(LatbenchError):
        decode_record(content)


@pytest.mark.parametrize("content", [b'{"schema":"\x9c"}', b'{"\x9c":1}', b"\xff"])
def test_what_is_not_utf8_is_an_error_in_words(content: bytes) -> None:
    with pytest.raises(LatbenchError):
        decode_record(content)


def test_deep_nesting_is_an_error_in_words() -> None:
    with pytest.raises(LatbenchError):
        decode_record(b"[" * 100_000)


def test_every_missing_field_is_an_error() -> None:
    whole = msgspec.to_builtins(make_record())
    for name in Record.__struct_fields__:
        with pytest.raises(LatbenchError):
            convert_record({key: value for key, value in whole.items() if key != name})


def test_the_digest_is_of_the_value_not_of_its_order() -> None:
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
