"""Registries that cannot be used: each told in words, with what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from latbench.errors import LatbenchError, RegistryError, UsageError
from latbench.schema.blobs import pack_ns
from latbench.schema.codec import decode_record
from latbench.store import migrate
from latbench.store.engine import make_engine, registry_url, shown, without_credentials
from latbench.store.registry import Registry
from latbench.store.tables import metadata
from support.environment import GOLDEN, child_environment
from support.records import make_record, make_trace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    with Registry.open(str(path)) as registry:
        registry.add(make_record())
    return path


def test_locked(file: Path) -> None:
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Registry.open(str(file), lock_timeout_s=0.2) as registry:
        assert registry.count() == 1  # readers do not wait for a writer
        with pytest.raises(RegistryError, match="locked") as caught:
            registry.add(make_record(id="x"))
    assert "another program" in (caught.value.hint or "")
    holder.close()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\1" * 4000]
)
def test_not_a_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        Registry.open(str(path))
    assert caught.value.hint
    assert path.read_bytes() == content


def test_damaged_pages(file: Path) -> None:
    with Registry.open(str(file)) as registry:
        registry.add_many(
            [make_record(id=f"r{i}", traces=[make_trace(0, range(500))]) for i in range(50)]
        )
    content = bytearray(file.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    file.write_bytes(content)

    def use() -> None:
        with Registry.open(str(file)) as registry:
            for i in range(50):
                registry.get(f"r{i}")
            registry.add(make_record(id="new"))

    with pytest.raises(LatbenchError):
        use()


def test_a_record_that_was_edited_by_hand(file: Path) -> None:
    for body in ("{", "[]", "{}", '{"environment": 5}'):
        other = sqlite3.connect(file)
        other.execute("update records set body = ?", (body,))
        other.commit()
        other.close()
        with Registry.open(str(file)) as registry, pytest.raises(RegistryError, match="is damaged"):
            registry.get("01m")


def test_somebody_elses_database(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    other = sqlite3.connect(path)
    other.execute("create table photos (id integer)")
    other.commit()
    other.close()
    with pytest.raises(RegistryError, match="not a latbench registry: it holds photos"):
        Registry.open(str(path))


def test_written_by_a_newer_version(url: str) -> None:
    with Registry.open(url) as registry, registry._engine.begin() as connection:
        connection.exec_driver_sql("update latbench_version set version_num = '0999'")
    for create in (True, False):
        with pytest.raises(RegistryError, match="newer latbench") as caught:
            Registry.open(url, create=create)
        assert caught.value.hint == "upgrade latbench"


def test_the_head_is_the_newest_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == migrate.HEAD
    assert {revision.revision for revision in script.walk_revisions()} == set(migrate.KNOWN)


def alembic_at(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def test_migrations_make_the_tables(url: str) -> None:
    with Registry.open(url) as registry, registry._engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "latbench_version"})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("status", ["measured", "failed", "interrupted"])
def test_a_registry_of_the_first_revision_is_migrated(url: str, status: str) -> None:
    """As latbench 0.1.0 wrote it: its tables, its record without traces, its blobs."""
    path = GOLDEN / f"records/schema1-{status}.json"
    tree, expected = msgspec.json.decode(path.read_bytes()), decode_record(path.read_bytes())
    sessions, machine = tree["outcome"].pop("traces"), tree["environment"].pop("machine")
    with make_engine(registry_url(url)).begin() as connection:
        command.upgrade(alembic_at(connection), "0001")
        old = MetaData()
        old.reflect(connection)
        body = {"digest": "d", "body": msgspec.json.encode(machine).decode()}
        connection.execute(old.tables["machines"].insert(), body)
        row = {
            **{column.name: "" for column in old.tables["records"].columns},
            **{"id": tree["id"], "schema": 1, "created_unix_ns": 1, "sample_count": 1},
            **{"threads": None, "median_ns": None, "machine": "d"},
            **{"status": status, "body": msgspec.json.encode(tree).decode()},
        }
        connection.execute(old.tables["records"].insert(), row)
        for trace in sessions:
            blocks = trace["blocks"]
            row = {
                **{name: trace[name] for name in ("process", "load_ns", "first_ns")},
                "record_id": tree["id"],
                "peak_rss_bytes": trace["peak_rss_bytes"],
                "warmup": pack_ns(trace["warmup_ns"]),
                "samples": pack_ns([ns for block in blocks for ns in block["sample_ns"]]),
                "block_starts": pack_ns([block["start_ns"] for block in blocks]),
                "block_calls": pack_ns([len(block["sample_ns"]) for block in blocks]),
            }
            connection.execute(old.tables["traces"].insert(), row)
    with pytest.raises(RegistryError, match="older version"):
        Registry.open(url, create=False)
    with Registry.open(url) as registry:
        assert registry.get(tree["id"]) == expected
        registry.add(make_record(id="new"))
        assert registry.get("new") == make_record(id="new")


def test_opening_a_current_one_loads_no_alembic(file: Path) -> None:
    code = (
        "import sys; from latbench.store.registry import Registry;"
        f"Registry.open({str(file)!r}).count(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk(small_disk: Path) -> None:
    added = 0

    def fill() -> None:
        nonlocal added
        with Registry.open(str(small_disk / "registry.db")) as registry:
            for i in range(10_000):
                traces = [make_trace(0, [(i * k * 7919) % 2**31 for k in range(3000)])]
                registry.add(make_record(id=f"{i}", traces=traces))
                added += 1

    with pytest.raises(RegistryError) as caught:
        fill()
    assert "make room" in (caught.value.hint or "")
    assert added > 5
    with Registry.open(str(small_disk / "registry.db"), create=False) as registry:
        assert registry.count() == added
        assert registry.get("0").id == "0"


TRIED = """
import os, sys
from support.records import make_record
from latbench.errors import RegistryError
from latbench.store.registry import Registry
record = make_record()
if os.getuid() == 0:
    # Root may write everywhere; a user who may do nothing is made after everything is imported.
    Registry.open(":memory:").count()
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    with Registry.open(sys.argv[1], create=sys.argv[2] == "create") as registry:
        print(registry.count(), registry.get(record.id).id)
        registry.add(make_record(id="other"))
except RegistryError as error:
    print(error.message, "|", error.hint)
"""


def as_nobody(path: Path, what: str) -> str:
    """What a user who may write nowhere is told."""
    done = subprocess.run(
        [sys.executable, "-c", TRIED, str(path), what],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=True,
    )
    return done.stdout


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user can enter, as pytest's own is not."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    place.chmod(0o755)
    shutil.rmtree(place)


def test_what_may_not_be_written_can_be_read(open_place: Path) -> None:
    path = open_place / "registry.db"
    record = make_record()
    with Registry.open(str(path)) as registry:
        registry.add(record)
    path.chmod(0o444)
    open_place.chmod(0o555)
    told = as_nobody(path, "read")
    assert f"1 {record.id}" in told
    assert "permit writing" in told


def test_no_access_to_the_data_folder(open_place: Path) -> None:
    open_place.chmod(0o555)
    assert "another place" in as_nobody(open_place / "new.db", "create")
    assert "another place" in as_nobody(open_place / "deeper/new.db", "create")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/db", "cannot be in 'mysql'"),
        ("nonsense://x", "cannot be in 'nonsense'"),
        ("://", "cannot be read"),
        ("postgresql://host:port/x", "cannot be read"),
    ],
)
def test_unknown_urls(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Registry.open(url)


def test_an_unreachable_server_and_no_word_of_the_password() -> None:
    pytest.importorskip("psycopg", reason="needs the `postgresql` extra")
    with pytest.raises(RegistryError) as caught:
        Registry.open("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in caught.value.message
    assert "is the server running" in (caught.value.hint or "")


CREDENTIALS = [
    "postgresql://me:s3cret@host/lab",
    "postgresql+psycopg://me:s3cret@host/lab",
    "postgres://me:s3cret@host/lab",
    "postgresql://me:p@s3cret@host/lab",
    "postgresql://me:p/s3cret@host/lab",
    "postgresql://me:p?s3cret@host/lab",
    "postgresql://me:p?a=s3cret@host/lab",
    "postgresql://me:p#s3cret@host/lab",
    "postgresql://me:p%40s3cret@host/lab",
    "postgresql://me:s3cret%zz@host/lab",
    "postgresql://me:s3cret@/lab?host=/run",
    "postgresql://me@host/lab?password=s3cret&sslmode=require",
    "postgresql://host/lab?password=s3cret",
    "postgresql://host/lab?PASSWORD=s3cret",
    "postgresql://host/lab?user=me&sslpassword=s3cret",
    "postgresql://host/lab?passfile=/home/me/s3cret",
    "postgresql://host/lab?options=-c%20a.b%3Ds3cret",
    "postgresql://me:x@host/lab?password=s3cret&password=s3cret2",
]


@pytest.mark.parametrize("url", CREDENTIALS)
def test_credentials_are_masked_wherever_they_stand_in_the_url(url: str) -> None:
    text = shown(registry_url(url))
    assert "s3cret" not in text
    assert "***" in text
    assert "host" in text or "run" in text
    for argument in (url, f"--registry={url}"):
        assert "s3cret" not in without_credentials(argument)


@pytest.mark.parametrize(
    "url",
    [
        *CREDENTIALS,
        "postgresql+psycopg2://me:s3cret@127.0.0.1:1/lab",
        "mysql://me:s3cret@127.0.0.1:1/lab",
        "sqlite://me:s3cret@host/lab",
        "postgresql://me:s3cret@127.0.0.1:port/lab",
        "postgresql://me:s3cret@[::1/lab",
        "nonsense://me:s3cret@x",
    ],
)
def test_no_error_contains_credentials(url: str) -> None:
    """In the error and in what it was raised from: a log may show both."""
    pytest.importorskip("psycopg", reason="needs the `postgresql` extra")
    with pytest.raises((UsageError, RegistryError)) as caught:
        Registry.open(url.replace("@host", "@127.0.0.1:1").replace("//host", "//127.0.0.1:1"))
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_another_driver_is_not_a_missing_package() -> None:
    with pytest.raises(UsageError, match="psycopg 3, not psycopg2"):
        Registry.open("postgresql+psycopg2://host/lab")


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("update records set body = ?", (b"\xff\xfe",)),
        ("update records set body = ?", (b"\xff\xfe".decode("latin1"),)),
        ("update records set body = cast(? as text)", (b"\xff\xfe",)),
        ("update latest set created_unix_ns = ?", ("yesterday",)),
        ("""update records set body = replace(body, '"id":"a"', '"id":"b"')""", ()),
        ("update machines set body = cast(? as text)", (b"\xff",)),
        ("update traces set samples = ?", (b"\0\1",)),
        ("update traces set samples = ?", ("text",)),
        ("update traces set block_calls = ?", (b"",)),
        ("update traces set readings = ?", (b"junk",)),
        ("update latest set model = cast(? as text)", (b"\xff",)),
        ("update latbench_version set version_num = cast(? as text)", (b"\xff",)),
        ("update latbench_version set version_num = ?", ("0003",)),
        ("alter table latest drop column precision", ()),
        ("drop table traces", ()),
    ],
)
def test_a_damaged_registry_is_reported(
    file: Path, statement: str, values: tuple[bytes | str, ...]
) -> None:
    with Registry.open(str(file)) as registry:
        registry.add(make_record(id="a", traces=[make_trace(0, [1, 2, 3])]))
    with sqlite3.connect(file) as connection:
        connection.execute(statement, values)
    connection.close()

    def read() -> None:
        with Registry.open(str(file)) as registry:
            for row in registry.latest():
                assert isinstance(row.created_unix_ns, int)
            registry.get("a")
            raise AssertionError("the damage was not noticed")

    with pytest.raises(LatbenchError, match=r"damaged|registry"):
        read()


def test_a_schema_that_is_not_text(file: Path) -> None:
    content = file.read_bytes()
    assert b"latbench_version" in content
    file.write_bytes(content.replace(b"version_num", b"version_\xff\xfe\xfd"))
    with pytest.raises(RegistryError):
        Registry.open(str(file))


def test_a_new_registry_on_a_full_disk(small_disk: Path) -> None:
    with (small_disk / "rest").open("wb") as rest, suppress(OSError):
        rest.write(bytes(2**20))
    with pytest.raises(RegistryError) as caught:
        Registry.open(str(small_disk / "registry.db"))
    assert "make room" in (caught.value.hint or "")


def test_a_missing_database(postgresql: str) -> None:
    with pytest.raises(RegistryError, match="nosuchdatabase"):
        Registry.open(postgresql.replace("/postgres?", "/nosuchdatabase?"))
