"""Arguments and file names that are not UTF-8."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from latbench.schema.codec import encode_record
from support.command_line import Latbench
from support.onnx_files import classifier
from support.records import make_record

NAME = os.fsdecode(b"m\xff")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")


@pytest.mark.parametrize(
    "command",
    [
        ("show", NAME),
        ("table", "--sweep", NAME),
        ("models", NAME),
        ("claims", "show", NAME),
        ("run", NAME),
        ("run", f"{NAME}.onnx", "--protocol", "latbench-quick@1"),
        (NAME,),
    ],
    ids=ascii,
)
def test_bytes_that_are_not_text_are_a_wrong_request(
    latbench: Latbench, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "record.json").write_bytes(encode_record(make_record(id="one")))
    assert latbench("import", "record.json").status == 0
    classifier(tmp_path / f"{NAME}.onnx")
    ended = latbench(*command)
    assert ended.status == 2, ended
    assert r"m\udcff" in ended.err


def test_a_record_is_imported_from_any_name(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.json").write_bytes(encode_record(make_record(id="one")))
    assert latbench("import", f"{NAME}.json").status == 0
    assert latbench("show", "one", "--registry", "registry.db").status == 0
