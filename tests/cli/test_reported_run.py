"""Vendors' tools that latbench runs: stand-ins that print recorded texts, and two real ones."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from latbench.cli.reported import TOOLS
from latbench.reported.command_lines import TOOL_COMMANDS
from latbench.schema.codec import encode_record
from support.command_line import Ended, Latbench
from support.onnx_files import classifier
from support.records import make_record, make_trace
from support.tflite_files import adder
from support.tool_outputs import EXECUTOR_RUNNER, PERF_TEST

TOOLS_OF_VENV = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def stand_in(path: Path, *lines: str) -> Path:
    """A program of shell lines in the place of a vendor's tool."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def printing(text: str) -> str:
    return f"cat <<'END'\n{text}END"


def run(
    latbench: Latbench, program: Path, *more: str, tool: str = "onnxruntime_perf_test"
) -> Ended:
    model = program.parent / "net.onnx"
    if not model.exists():
        classifier(model)
    return latbench("reported", "run", tool, "--binary", program, "--model", model, *more)


def test_every_tool_can_be_run() -> None:
    assert tuple(TOOL_COMMANDS) == TOOLS


def test_what_a_tool_says_is_kept_as_reported(latbench: Latbench, tmp_path: Path) -> None:
    library = tmp_path / "libs" / "libone.so"
    library.parent.mkdir()
    library.write_bytes(b"library")
    program = stand_in(
        tmp_path / "perf",
        'echo "with $LD_LIBRARY_PATH and $WISH"',
        'echo "$@"',
        printing(PERF_TEST),
    )
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    options = ("--threads", "2", "--library", str(library), "--env", "WISH=granted")
    done = latbench(
        *("reported", "run", "onnxruntime_perf_test", "--binary", f"{program}@sha256:{digest}"),
        *("--model", classifier(tmp_path / "net.onnx"), *options, "--", "-e", "cpu"),
    )
    assert (done.status, done.err) == (0, "")
    first, *rest = done.out.splitlines()
    assert first.startswith("REPORTED by onnxruntime_perf_test, not measured by latbench: 4.95 ms")
    assert "CI" not in done.out
    id = rest[-1].split()[1]
    entry = latbench("reported", "show", id, "--json").json["reported"]
    ran = entry["run"]
    assert ran["command"][1:8] == ["-x", "2", "-I", "-s", "-t", "10", "-e"]
    assert ran["command"][-1].endswith(".onnx")
    assert (ran["program"], ran["program_sha256"]) == ("perf", digest)
    assert ran["libraries"] == {"libone.so": hashlib.sha256(b"library").hexdigest()}
    assert f"with {library.parent} and granted\n" in ran["output"]
    assert ran["output"].endswith(PERF_TEST)
    assert ran["machine"]["logical_cpus"] == os.cpu_count()
    assert (ran["reserved"], ran["address"]) == (True, None)
    assert ran["model"]["name"].endswith("net.onnx")
    assert ran["artifact"]["format"] == "onnx"
    assert entry["stated"]["device"] == ran["device"]["id"]
    assert entry["sha256"] == hashlib.sha256(ran["output"].encode()).hexdigest()
    # It is listed as reported everywhere, and what it wrote can be read again.
    assert "reported by onnxruntime_perf_test" in latbench("reported", "list").out
    assert "reported by onnxruntime_perf_test" in latbench("show").out
    assert latbench("reported", "show", id, "--output").out == ran["output"]
    assert "not measured by latbench" in latbench("compare", "--records", id, id).err
    # Another run that writes the same is another result; either moves to another registry.
    assert run(latbench, program).status == 0
    assert len(latbench("reported", "list", "--json").json) == 2
    (tmp_path / "shown.json").write_text(latbench("show", id, "--json").out)
    other = ("--registry", str(tmp_path / "other.db"))
    assert latbench("import", "shown.json", *other).status == 0
    assert latbench("show", id, "--json", *other).json["reported"] == entry


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("exit 126",), "may not be executed"),
        (("exit 127",), "or the loader that it names, is not"),
        (("echo 'x: error while loading shared libraries: libq.so.3: no'; exit 127",), "libq.so.3"),
        (
            ('echo \'CANNOT LINK EXECUTABLE "x": library "libq.so" not found\'; exit 1',),
            "library libq.so",
        ),
        (('echo "x: /libc.so.6: version \\`GLIBC_2.99\' not found"; exit 1',), "GLIBC_2.99"),
        (("kill -SEGV $$",), "by SIGSEGV"),
        (("echo unknown flag -Z; exit 3",), "status 3 on this machine: unknown flag -Z"),
        ((printing(PERF_TEST), "exit 3"), "status 3"),
        (("echo hello",), "its output is not understood"),
        ((), "its output is not understood"),
        ((printing(EXECUTOR_RUNNER),), "its output is not understood"),
    ],
)
def test_a_tool_without_a_result(
    latbench: Latbench, tmp_path: Path, lines: tuple[str, ...], words: str
) -> None:
    done = run(latbench, stand_in(tmp_path / "perf", *lines))
    assert done.status == 3
    assert words in done.err
    # A failure is listed, with everything that the program wrote.
    (row,) = latbench("reported", "list", "--json").json
    assert row["reported"] is None
    assert words in row["failure"]
    assert f"latbench reported show {row['id']} --output" in done.err
    listed = latbench("reported", "list").out
    assert "onnxruntime_perf_test failed: " in listed
    head, why, *_ = latbench("reported", "show", row["id"]).out.splitlines()
    assert head.startswith("REPORTED by onnxruntime_perf_test, not measured by latbench: it failed")
    assert words in why
    wrote = latbench("reported", "show", row["id"], "--output").out
    assert bool(wrote) == ("echo" in " ".join(lines) or "cat" in " ".join(lines))


def test_the_time_limit_and_a_program_of_another_machine(
    latbench: Latbench, tmp_path: Path
) -> None:
    done = run(latbench, stand_in(tmp_path / "perf", "sleep 60 & wait"), "--timeout", "1")
    assert done.status == 3
    assert "did not end within 1 s on this machine" in done.err
    other = tmp_path / "arm"
    machine = 243 if os.uname().machine != "riscv64" else 183
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little")
    other.write_bytes(head + bytes(200))
    other.chmod(0o755)
    done = run(latbench, other)
    assert done.status == 3
    assert f"arm is a program for {'aarch64' if machine == 183 else 'riscv64'}" in done.err
    assert os.uname().machine in done.err


def test_invalid_requests(latbench: Latbench, tmp_path: Path) -> None:
    program = stand_in(tmp_path / "perf", printing(PERF_TEST))
    for more, words in (
        (("--device", "nowhere"), "'nowhere' is not one of your devices"),
        (("--library", "missing.so"), "no library missing.so"),
        (("--installed", "/bin/true"), "which program is to be run"),
        (("--timeout", "0"), "time limit"),
        (("--precision", "fp99"), "fp99"),
    ):
        done = run(latbench, program, *more)
        assert (done.status, words in done.err) == (2, True), done.err
    wrong = Path(f"{program}@sha256:{64 * '0'}")
    assert "not the program that was asked for" in run(latbench, wrong).err
    assert "no program" in run(latbench, tmp_path / "missing").err
    done = run(latbench, program, "--threads", "2", tool="trtexec")
    assert (done.status, "no option for threads" in done.err) == (2, True)
    done = run(latbench, program, tool="benchmark_model")
    assert (done.status, "cannot be converted to format 'tflite'" in done.err) == (2, True)


def test_commands_to_type_by_hand(
    latbench: Latbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path / "perf", "touch started")
    (line,) = run(latbench, program, "--dry-run", "--env", "A=b c").out.splitlines()
    words = shlex.split(line)
    assert words[:3] == ["env", "A=b c", str(program)]
    assert words[-1].endswith(".onnx")
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    for id, address in (("pixel", "adb://R3X"), ("pi", "ssh://me@pi.local:2222")):
        document = {"schema": 1, "connections": [{"id": id, "address": address}]}
        place = tmp_path / "config" / "latbench"
        place.mkdir(parents=True, exist_ok=True)
        (place / "connections.yaml").write_text(json.dumps(document))
        done = latbench(
            *("reported", "run", "onnxruntime_perf_test", "--binary", program, "--device", id),
            *("--model", tmp_path / "net.onnx", "--dry-run"),
            **config,
        )
        make, copy, start = done.out.splitlines()
        if id == "pixel":
            assert make.startswith("adb -s R3X shell ")
            assert copy.startswith("adb -s R3X push ")
        else:
            assert make.startswith("ssh -p 2222 me@pi.local ")
            assert copy.startswith("scp -r -P 2222 ")
            assert copy.endswith(" me@pi.local:/tmp/latbench-by-hand/")
        assert "chmod 700" in start
    assert not (tmp_path / "started").exists()


def test_removing(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(
        encode_record(make_record(id="01measured", traces=[make_trace(0, [10, 11, 12])]))
    )
    assert latbench("import", "one.json").status == 0
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(PERF_TEST)
    a, b = (
        latbench("import", f"{name}.txt", "--from", "auto", "--model", name).out.strip()
        for name in ("a", "b")
    )
    done = latbench("reported", "remove", a, "01measured")
    assert (done.status, "latbench measured" in done.err) == (2, True)
    assert latbench("reported", "remove", "nothing").status == 2
    # All or none.
    assert len(latbench("reported", "list", "--json").json) == 2
    assert latbench("reported", "show", "01measured").status == 2
    assert "was imported from a.txt" in latbench("reported", "show", a, "--output").err
    assert latbench("reported", "remove", a[:-2], "--json").json == [a]
    assert [row["model"] for row in latbench("reported", "list", "--json").json] == ["b"]
    assert latbench("reported", "remove", b).out == f"removed {b}\n"
    assert len(latbench("show", "--json").json) == 1


@pytest.mark.slow
def test_real_tools(latbench: Latbench, tmp_path: Path) -> None:
    # The tool prints whole microseconds; four additions take less than half of one.
    wide = adder(tmp_path / "net.tflite", width=1 << 20)
    ran = 0
    for tool, model, more in (
        ("litert-benchmark", wide, ("--num_runs=5",)),
        ("benchmark_app", classifier(tmp_path / "net.onnx"), ("-t", "1")),
    ):
        program = TOOLS_OF_VENV / tool
        if not program.exists():
            continue
        done = latbench(
            *("reported", "run", tool, "--binary", program, "--model", model, "--json"),
            *("--threads", "1", "--", *more),
        )
        assert done.status == 0, done.err
        entry = done.json["reported"]
        assert entry["result"]["statistics_ns"]["latency"]["median"] > 0
        assert entry["run"]["output"]
        ran += 1
    if not ran:
        pytest.skip("needs ai-edge-litert or OpenVINO")
