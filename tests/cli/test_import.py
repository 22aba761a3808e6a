"""`latbench import`: which records of which files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from latbench.errors import LatbenchError
from latbench.schema.codec import decode_output, decode_record, encode_record
from latbench.schema.record import Record
from support.command_line import Latbench
from support.records import make_record, make_trace


def test_equal_records_are_imported_once(latbench: Latbench, tmp_path: Path) -> None:
    record = make_record(id="one", traces=[make_trace(0, [1, 2, 3])])
    (tmp_path / "a.json").write_bytes(encode_record(record))
    (tmp_path / "b.json").write_bytes(msgspec.json.format(encode_record(record), indent=2))
    done = latbench("import", "a.json", "b.json", "a.json", "--json")
    assert (done.status, done.json) == (0, ["one"])
    stored = latbench("show", "one", "--json").json["record"]
    assert stored == json.loads(encode_record(record))


def test_different_records_with_one_id_are_refused(latbench: Latbench, tmp_path: Path) -> None:
    for name, samples in (("a", [1, 2, 3]), ("b", [4, 5, 6])):
        record = make_record(id="one", traces=[make_trace(0, samples)])
        (tmp_path / f"{name}.json").write_bytes(encode_record(record))
    done = latbench("import", "a.json", "b.json")
    assert done.status == 2
    assert "a.json and b.json contain different records with the id one" in done.err
    assert latbench("show", "one").status == 3  # nothing created a registry


def test_what_show_prints_is_imported(latbench: Latbench, tmp_path: Path) -> None:
    record = make_record(id="one", traces=[make_trace(0, [1, 2, 3])])
    (tmp_path / "a.json").write_bytes(encode_record(record))
    latbench("import", "a.json")
    (tmp_path / "shown.json").write_text(latbench("show", "one", "--json").out)
    other = str(tmp_path / "other.db")
    done = latbench("import", "shown.json", "a.json", "--registry", other)
    assert (done.status, done.out) == (0, "one\n")
    stored = latbench("show", "one", "--json", "--registry", other).json["record"]
    assert stored == json.loads(encode_record(record))


@pytest.mark.parametrize("data", ['{"record": 1}', '{"record": {"record": {}}}', "[]", "{}", "1"])
def test_what_is_no_record(data: str) -> None:
    with pytest.raises(LatbenchError):
        decode_output(data.encode())


def test_an_error_names_the_file(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_bytes(encode_record(make_record(id="good")))
    (tmp_path / "bad.json").write_text("{")
    done = latbench("import", "good.json", "bad.json")
    assert done.status == 3
    assert "bad.json: not a record" in done.err
    assert latbench("show", "good").status in (2, 3)


def twice(record: Record) -> bytes:
    tree = json.loads(encode_record(record))
    tree["outcome"]["traces"] *= 2
    return msgspec.json.encode(tree)


def test_two_traces_of_one_session_are_refused() -> None:
    record = make_record(id="one", traces=[make_trace(0, [1, 2, 3])])
    with pytest.raises(LatbenchError, match="two traces of one session"):
        decode_record(twice(record))
