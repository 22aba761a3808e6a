"""The registry on SQLite and on PostgreSQL: one behaviour."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latbench.bench.record_factory import new_id
from latbench.claims.model import Citation, Claim
from latbench.claims.statements import StatedValue
from latbench.claims.verdict import (
    Answer,
    AnswerName,
    StoredVerdict,
    Verdict,
)
from latbench.errors import RegistryError, UsageError
from latbench.schema.record import Record, SweepPoint
from latbench.store.record_filter import RecordFilter
from latbench.store.registry import Registry
from support.environment import child_environment
from support.records import MACHINE, make_record, make_trace


def numbered(i: int, **changes: object) -> Record:
    return make_record(id=f"{i:026d}", created_unix_ns=10**18 + i, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["measured", "failed", "interrupted"])
def test_a_record_comes_back_as_it_was(url: str, status: str) -> None:
    record = make_record(status=status)  # type: ignore[arg-type]
    with Registry.open(url) as registry:
        registry.add(record)
    with Registry.open(url, create=False) as registry:
        assert registry.get(record.id) == record
        assert registry.count() == 1


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=25), min_size=1, max_size=3),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_any_values_come_back(url: str, processes: list[list[int]], name: str) -> None:
    traces = [make_trace(i, values) for i, values in enumerate(processes)]
    with Registry.open(url) as registry:
        record = numbered(registry.count(), model=name, traces=traces)
        registry.add(record)
        assert registry.get(record.id) == record
        assert registry.history(name, record.device.id, record.backend)[0].id == record.id


def test_history_is_newest_first_and_of_one_group(url: str) -> None:
    with Registry.open(url) as registry:
        registry.add_many([numbered(i, model=("a", "b")[i % 2]) for i in range(10)])
        registry.add(numbered(10, model="a", device="other"))
        registry.add(numbered(11, model="a", backend="other"))
        rows = registry.history("a", "example-cpu-2cpu", "onnxruntime")
        assert [int(row.id) for row in rows] == [8, 6, 4, 2, 0]
        assert len(registry.history("a", "example-cpu-2cpu", "onnxruntime", limit=2)) == 2
        assert registry.history("nothing", "example-cpu-2cpu", "onnxruntime") == ()
    (first, *_) = rows
    assert (first.status, first.median_ns, first.sample_count) == ("measured", 6_405_000, 4)
    assert (first.precision, first.protocol) == ("fp32", "latbench-fixed@1")
    assert (first.input, first.threads) == ("1x3x224x224", 2)


def test_records_are_found_by_conditions(url: str) -> None:
    trained = numbered(3)
    trained = msgspec.structs.replace(
        trained, request=msgspec.structs.replace(trained.request, options={"form": "trained"})
    )
    other = numbered(2, model="b")
    other = msgspec.structs.replace(
        other, model=msgspec.structs.replace(other.model, weights="sha256:ab%12")
    )
    with Registry.open(url) as registry:
        registry.add_many([numbered(1, status="failed"), other, trained])

        def found(**wanted: object) -> list[int]:
            return [int(row.id) for row in registry.find(RecordFilter(**wanted))]  # type: ignore[arg-type]

        assert found() == [3, 2, 1]
        assert found(options=(("form", "trained"),)) == [3]
        assert found(options=(("form", "deploy"), ("provider", "CPUExecutionProvider"))) == [2]
        assert found(weights="ab%1") == [2]
        assert found(weights="ab%2") == found(weights="%") == []
        assert found(protocols=("latbench-fixed",), models=("b", "c")) == [2]
        assert found(since_unix_ns=10**18 + 2) == [3, 2]
        newest = registry.newest(RecordFilter(precisions=("fp32",)))
        assert [int(row.id) for row in newest] == [2, 1], "the trained form is not deployed"
        (only,) = registry.newest(RecordFilter(options=(("form", "trained"),)))
        assert int(only.id) == 3


def test_latest_of_each_group_whatever_its_status(url: str) -> None:
    with Registry.open(url) as registry:
        registry.add(numbered(5, model="a"))
        registry.add(numbered(6, model="a", status="failed"))
        registry.add(numbered(7, model="b"))
        registry.add(numbered(8, model="a", device="other"))
        # An older record that comes in late (from another machine's file) displaces nothing.
        registry.add(numbered(1, model="b"))
        assert [int(row.id) for row in registry.latest()] == [6, 7, 8]
        assert [int(row.id) for row in registry.latest("other")] == [8]
        assert [row.status for row in registry.latest()] == ["failed", "measured", "measured"]


def test_all_or_nothing(url: str) -> None:
    with Registry.open(url) as registry:
        registry.add(numbered(1))
        with pytest.raises(RegistryError, match=f"{1:026d}"):
            registry.add_many([numbered(2), numbered(1), numbered(3)])
        assert registry.count() == 1
        assert [row.id for row in registry.latest()] == [f"{1:026d}"]
        registry.add_many(())


def test_a_record_is_found_by_the_start_of_its_id(url: str) -> None:
    with Registry.open(url) as registry:
        registry.add_many([make_record(id=id) for id in ("abc1", "abc2", "b%d", "bxd")])
        assert registry.get("abc1").id == "abc1"
        assert registry.get("b%").id == "b%d"
        with pytest.raises(UsageError, match="several records"):
            registry.get("abc")
        with pytest.raises(UsageError, match="no record 'z'"):
            registry.get("z")


def test_a_printed_id_stays_usable_when_others_follow(url: str) -> None:
    """A second later, and in the same millisecond with what is known then."""
    now = 1_790_000_000_000_000_000
    first, later, same = (new_id(now + plus) for plus in (0, 1_100_000_000, 1_100_000_001))
    with Registry.open(url) as registry:
        registry.add(make_record(id=first))
        printed = registry.short_ids([first])[first]
        registry.add_many([make_record(id=later), make_record(id=same)])
        assert registry.get(printed).id == first
        for id, short in registry.short_ids([later, same]).items():
            assert registry.get(short).id == id
        with pytest.raises(UsageError, match=f"several records begin with .*{same}"):
            registry.get(later[:8])


def test_two_sweeps_are_not_mixed(url: str) -> None:
    point = SweepPoint(sweep="", points_sha256="0" * 64, point=0, points=1, order_seed=0)
    with Registry.open(url) as registry:
        for i, sweep in enumerate(("01a1", "01a2", "01a2x")):
            of = msgspec.structs.replace(point, sweep=sweep)
            registry.add(msgspec.structs.replace(numbered(i), sweep=of))
        assert registry.sweeps("01a2") == ("01a2x", "01a2")
        assert [int(record.id) for record in registry.of_sweep("01a1")] == [0]
        assert [int(record.id) for record in registry.of_sweep("01a2")] == [1]
        with pytest.raises(UsageError, match="several sweeps begin with '01a': 01a2x, 01a2, 01a1"):
            registry.of_sweep("01a")


def test_machine_facts_are_stored_once(url: str) -> None:
    other = msgspec.structs.replace(MACHINE, hostname="bench-2")
    with Registry.open(url) as registry:
        registry.add_many([numbered(i) for i in range(5)])
        registry.add(numbered(9, machine=other))
        assert registry.get(f"{9:026d}").environment.machine == other
        with registry._engine.connect() as connection:
            found = connection.exec_driver_sql("select count(*) from machines").scalar()
    assert found == 2


def test_opening_what_is_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry at"):
        Registry.open(str(tmp_path / "none.db"), create=False)
    assert not (tmp_path / "none.db").exists()
    with Registry.open(str(tmp_path / "deep/er/new.db")) as registry:
        assert registry.latest() == ()


def open_and_add(url: str, start: int, barrier_at: float) -> None:
    time.sleep(max(0, barrier_at - time.time()))
    with Registry.open(url, lock_timeout_s=60) as registry:
        for i in range(start, start + 20):
            registry.add(numbered(i))


@pytest.mark.slow
def test_many_open_a_new_one_and_write_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    at = time.time() + 3
    writers = [context.Process(target=open_and_add, args=(url, i * 100, at)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    with Registry.open(url) as registry:
        assert registry.count() == 160
        assert (
            len(registry.history("mobilevig_ti", "example-cpu-2cpu", "onnxruntime", limit=999))
            == 160
        )


WRITER = """
import sys
from support.records import make_record
from latbench.store.record_filter import RecordFilter
from latbench.store.registry import Registry
with Registry.open(sys.argv[1], lock_timeout_s=60) as registry:
    for i in range(int(sys.argv[2]), 10**9):
        registry.add(make_record(id=f"{i:026d}", created_unix_ns=10**18 + i))
        print(i, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_was_acknowledged(url: str) -> None:
    acknowledged: list[int] = []
    for round_ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(round_ * 1_000_000)],
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        assert writer.stdout is not None
        acknowledged.append(int(writer.stdout.readline()))
        time.sleep(0.02 + 0.037 * round_)
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
    with Registry.open(url) as registry:
        rows = registry.history("mobilevig_ti", "example-cpu-2cpu", "onnxruntime", limit=10**6)
        stored = {int(row.id) for row in rows}
        assert stored >= set(acknowledged)
        assert len(stored) <= len(acknowledged) + 8
        for row in rows:
            assert len(registry.get(row.id).outcome.traces) == 2
        if registry._engine.dialect.name == "sqlite":
            with registry._engine.connect() as connection:
                assert connection.exec_driver_sql("pragma integrity_check").scalar() == "ok"


def stored(answer: AnswerName, at: int, id: str = "one") -> StoredVerdict:
    says = StatedValue(metric="latency", figure="2.30", unit="ms")
    source = Citation(id="paper", where="Table 1")
    return StoredVerdict(
        claim=Claim(id=id, model="m", says=says, source=source, by="authors"),
        created_unix_ns=at,
        latbench="0.1.0",
        device="bench-cpu",
        answers=Verdict(
            claim=id,
            value=Answer(answer=answer, records=("r1",), claimed=(0.0, float("inf"))),
            ordering=(),
            static=None,
        ).given(),
    )


def test_verdicts_come_back_newest_first(url: str) -> None:
    with Registry.open(url) as registry:
        registry.add_verdicts(())
        assert registry.newest_verdicts(("one",)) == ([], [])
        old, new = stored("inconclusive", 1), stored("refuted", 2)
        other = stored("confirmed", 1, "two")
        registry.add_verdicts((old, other))
        registry.add_verdicts((new,))
        # Two checks at once: what is there stays.
        registry.add_verdicts((stored("confirmed", 2), new))
        assert registry.verdicts_on("one") == ([new, old], [])
        assert registry.newest_verdicts(("one", "two")) == ([new, other], [])
        assert registry.newest_verdicts(("two",)) == ([other], [])
        assert registry.newest_verdicts(()) == ([], [])
        assert registry.verdicts_on("three") == ([], [])


def changed(stored: StoredVerdict, **changes: Any) -> StoredVerdict:
    """With another answer."""
    (answer,) = stored.answers
    return msgspec.structs.replace(stored, answers=(msgspec.structs.replace(answer, **changes),))


def test_comparisons_elsewhere_are_read_in_todays_words(url: str) -> None:
    """Earlier versions called them confirmed or refuted on any device."""
    old = stored("refuted", 1)
    conditions = msgspec.structs.replace(old.claim.conditions, device="phone", backend="coreml")
    old = msgspec.structs.replace(
        old, claim=msgspec.structs.replace(old.claim, conditions=conditions)
    )
    there = changed(old, question="ordering", where="phone, coreml")
    here = changed(old, question="ordering", where="bench-cpu, onnxruntime", answer="confirmed")
    size = changed(old, question="static", where=None)
    for at, each in enumerate((there, here, size), start=1):
        with Registry.open(url) as registry:
            registry.add_verdicts((msgspec.structs.replace(each, created_unix_ns=at),))
    with Registry.open(url) as registry:
        found, _ = registry.verdicts_on(old.claim.id)
    assert [each.answers[0].answer for each in found] == ["refuted", "holds here", "refuted"]


def test_a_verdict_says_the_same_in_other_words() -> None:
    one = changed(stored("refuted", 1), found=2.0)
    for same in (
        msgspec.structs.replace(one, created_unix_ns=2, latbench="0.2.0", device="other"),
        changed(one, reasons=("in other words",), needs=("more",)),
        changed(one, found=2.0 + 1e-9),
    ):
        assert one.same_result(same)
    for other in (
        stored("confirmed", 1),
        changed(one, where="bench-cpu, onnxruntime"),
        changed(one, records=("r2",)),
        changed(one, found=2.1),
        changed(one, found=None),
        changed(one, interval=(1.0, 3.0)),
        changed(one, claimed=(0.0, 5.0)),
        msgspec.structs.replace(one, answers=()),
    ):
        assert not one.same_result(other)


def test_no_verdicts_need_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    Registry.open(str(path)).__exit__(None, None, None)
    with sqlite3.connect(path) as writer:
        writer.execute("begin immediate")
        with Registry.open(str(path), lock_timeout_s=0.01) as registry:
            registry.add_verdicts(())
            with pytest.raises(RegistryError, match="locked"):
                registry.add_verdicts((stored("refuted", 1),))


def test_a_damaged_verdict_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with Registry.open(str(path)) as registry:
        registry.add_verdicts((stored("refuted", 1), stored("confirmed", 2)))
        registry.add_verdicts((stored("refuted", 1, "two"),))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "update verdicts set body = substr(body, 1, 40) where created_unix_ns = 2"
        )
    with Registry.open(str(path)) as registry:
        found, (unread,) = registry.verdicts_on("one")
        assert found == [stored("refuted", 1)]
        assert f"a verdict on one in {path} cannot be read" in unread
        found, (unread,) = registry.newest_verdicts(("one", "two"))
        assert found == [stored("refuted", 1, "two")]
