"""`latbench bundle`: create, verify, show, import, card; and files that are no evidence."""

from __future__ import annotations

import io
import json
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from latbench.audit.library import load_claims
from latbench.bundle import archive
from latbench.bundle.archive import BundleError, pack, unpack
from latbench.bundle.evidence import Evidence, open_bundle, pack_evidence
from latbench.claims.verdict import Answer, Verdict
from latbench.devices.catalog import load_devices
from latbench.report.html.claim_card import claim_card
from latbench.schema.codec import encode_record
from latbench.schema.record import Interleaved, Record
from support.command_line import Latbench
from support.records import make_record, make_trace

DEVICES = """\
schema: 1
devices:
- {id: bench-cpu, name: Bench, kind: server}
"""
OWN = """\
schema: 1
sources:
- {id: paper, title: "A <b>paper</b> | of *ours*"}
claims:
- id: planted
  model: mobilevig_ti
  says: {kind: value, metric: latency, figure: "6.40", unit: ms}
  source: {id: paper, where: Table 1, quote: "<script>alert(1)</script> `rm`"}
  conditions: {device: bench-cpu, backend: onnxruntime, compute_unit: cpu, precision: fp32, threads: 2, batch: 1, resolution: 224}
  open: [os, backend_version, input, protocol, warmup_calls, calls, statistic]
  by: authors
"""
FIRST, SECOND = "01m86kmv4b6a5884ma62zcdt3x", "01m86kmv4b6a5884ma62zcdt3y"
KEY = bytes(range(32))


def record(id: str = FIRST, ms: float = 6.4) -> Record:
    traces = [
        make_trace(i, [round(ms * 1e6 * (1 + (i - 4) / 2000 + j % 7 / 5000)) for j in range(40)])
        for i in range(8)
    ]
    return make_record(id=id, device="bench-cpu", traces=traces)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "devices.yaml").write_text(DEVICES)
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/own.yaml").write_text(OWN)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "other-key").write_bytes(KEY[::-1])
    return {
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
        "LATBENCH_CLAIMS": str(tmp_path / "claims"),
    }


@pytest.fixture
def made(latbench: Latbench, tmp_path: Path, places: dict[str, str]) -> Path:
    """A signed bundle of one record and one claim."""
    (tmp_path / "record.json").write_bytes(encode_record(record()))
    assert latbench("import", "record.json").status == 0
    done = latbench("bundle", "create", "out.zip", "--claim", "planted", "--key", "key", **places)
    assert done.status == 0, done
    return tmp_path / "out.zip"


def test_a_bundle_travels(
    latbench: Latbench, made: Path, tmp_path: Path, places: dict[str, str]
) -> None:
    verified = latbench("bundle", "verify", made, "--key", "key", "--json", **places)
    assert verified.status == 0, verified
    assert verified.json["signature"] == "signed, the key fits"
    assert verified.json["records"] == [FIRST]
    assert verified.json["notes"] == []
    assert "signed, no key given" in latbench("bundle", "verify", made, **places).out
    # Elsewhere nobody knows the claim or the device: the bundle brings them.
    elsewhere = latbench("bundle", "verify", made)
    assert elsewhere.status == 0
    assert "claim planted is unknown here" in elsewhere.out
    wrong = latbench("bundle", "verify", made, "--key", "other-key")
    assert wrong.status == 1
    assert "signature" in wrong.err
    shown = latbench("bundle", "show", made)
    assert "confirmed: 6.40" in shown.out
    assert "95% CI" in shown.out
    there = latbench("bundle", "import", made)
    assert (there.status, there.out) == (0, "imported 0, skipped 1 already stored\n")
    new = latbench("bundle", "import", made, LATBENCH_REGISTRY=str(tmp_path / "other.db"))
    assert new.out.splitlines() == ["imported 1, skipped 0 already stored", FIRST]


def test_the_same_evidence_is_the_same_file(
    latbench: Latbench, made: Path, tmp_path: Path, places: dict[str, str]
) -> None:
    arguments = ("--claim", "planted", "--key", "key")
    assert latbench("bundle", "create", "two.zip", FIRST, *arguments, **places).status == 0
    assert (tmp_path / "two.zip").read_bytes() == made.read_bytes()
    again = latbench("bundle", "create", "two.zip", FIRST)
    assert again.status == 2
    assert "never overwritten" in again.err


def test_another_record_of_the_same_id(latbench: Latbench, made: Path, tmp_path: Path) -> None:
    data = pack_evidence(Evidence(records=(record(FIRST, 5.0), record(SECOND))), key=None)
    (tmp_path / "other.zip").write_bytes(data)
    ended = latbench("bundle", "import", "other.zip", "--json")
    assert ended.status == 1
    assert ended.json == {"stored": [SECOND], "there": [], "different": [FIRST]}
    assert "with different content" in ended.err


def test_card(latbench: Latbench, made: Path, places: dict[str, str]) -> None:
    page = latbench("bundle", "card", made, "--claim", "planted", "--format", "html")
    assert page.status == 0, page
    assert "<script" not in page.out
    assert "&lt;script&gt;alert(1)" in page.out
    for words in ("confirmed", "95 % interval", record().protocol_sha256, "Example CPU", "6.40"):
        assert words in page.out
    assert "latbench run --model mobilevig_ti --backend onnxruntime" in page.out
    assert "bundle verify out.zip" in page.out
    assert "http" not in page.out
    text = latbench("bundle", "card", FIRST, "--claim", "planted", **places).out
    assert "&lt;script>" in text
    assert "A &lt;b>paper&lt;/b> \\| of \\*ours\\*" in text
    other = latbench("bundle", "card", made, "--claim", "plantd")
    assert other.status == 2
    assert "it holds planted" in other.err


def test_a_card_says_how_the_numbers_were_asked_for() -> None:
    def part(i: int, model: str, threads: int) -> Record:
        made = make_record(id=(FIRST, SECOND)[i], model=model)
        request = msgspec.structs.replace(made.request, threads=threads, resolution=(64, 96))
        turn = Interleaved(comparison="c", part=i, parts=2, order_seed=0)
        return msgspec.structs.replace(made, request=request, interleaved=turn)

    def commands(*records: Record) -> tuple[str, ...]:
        answer = Answer(answer="confirmed", records=(FIRST, SECOND))
        found = Verdict(claim=claim.id, value=None, ordering=(answer,), static=None)
        pairs = [(record, None) for record in records]
        return claim_card(claim, found, pairs, models, sources).sections[-1].commands

    registered = load_claims(load_devices())
    claim = registered.find("mobilevig-ti-faster-mnv2-140")
    models, sources = registered.models, registered.sources
    options = "--backend onnxruntime --resolution 64x96 --precision fp32 --threads 1 --seed 0"
    check = f"latbench claims check {claim.id}"
    first, second = part(0, "my model.onnx", 1), part(1, "mobilevig_ti", 1)
    in_turn = f"latbench compare 'my model.onnx' mobilevig_ti {options}"
    assert commands(first, second) == (in_turn, check)
    alone = f"latbench run --model mobilevig_ti {options}"
    assert commands(second) == (alone, check)
    assert len(commands(first, part(1, "mobilevig_ti", 2))) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "new.zip"), "name records"),
        (("create", "new.zip", "01nothing"), "no record"),
        (("create", "new.zip", "--sweep", "01nothing"), "no records of a sweep"),
        (("create", "new.zip", "--claim", "plantd"), "unknown claim"),
        (("create", "new.zip", FIRST, "--key", "record.json/x"), "does not exist"),
        (("create", "new.zip", FIRST, "--key", "short"), "the key has 3 bytes"),
        (("verify", "nowhere.zip"), "does not exist"),
    ],
)
def test_wrong_requests(
    latbench: Latbench,
    made: Path,
    tmp_path: Path,
    places: dict[str, str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    ended = latbench("bundle", *arguments, **places)
    assert ended.status == 2
    assert words in ended.err
    assert not (tmp_path / "new.zip").exists()


def test_verify_says_why_not(latbench: Latbench, made: Path) -> None:
    made.write_bytes(made.read_bytes()[:-40])
    ended = latbench("bundle", "verify", made, "--json")
    assert ended.status == 1
    assert ended.json["verifies"] is False
    assert "truncated" in ended.json["reason"]
    for command in ("show", "import"):
        assert latbench("bundle", command, made).status == 1
    made.write_text("no archive")
    assert "does not verify" in latbench("bundle", "card", made, "--claim", "planted").err


def small(key: bytes | None = None) -> bytes:
    return pack_evidence(Evidence(records=(record(),)), key=key)


def content(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("claims.json")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("../out.json", "points out of it"),
        ("/etc/passwd", "points out of it"),
        ("records/../../x.json", "points out of it"),
        ("C:\\x.json", "points out of it"),
        (link(), "is a link"),
        ("readme.txt", "which no bundle has"),
        ("records/", "which no bundle has"),
        ("records/a.json/b.json", "which no bundle has"),
        (f"records/{SECOND}.json", "does not list"),
        ("claims.json", "does not list"),
    ],
)
def test_members_that_no_bundle_has(member: str | zipfile.ZipInfo, words: str) -> None:
    data = zipped([*content(small()).items(), (member, b"{}")])
    with pytest.raises(BundleError, match=words):
        open_bundle(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice() -> None:
    members = list(content(small()).items())
    with pytest.raises(BundleError, match="twice"):
        open_bundle(zipped([*members, members[-1]]))


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped([*content(small()).items(), ("claims.json", bytes(65 * 2**20))])
    assert len(bomb) < 200_000
    with pytest.raises(BundleError, match="would unpack to"):
        open_bundle(bomb)
    good = small()
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(BundleError, match="more than 1,000 bytes"):
        open_bundle(good)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with pytest.raises(BundleError, match="more than 1 members"):
        open_bundle(good)


def test_a_bomb_that_hides_its_size() -> None:
    size = 200 * 2**20
    bomb = zipped([*content(small()).items(), ("claims.json", bytes(size))])
    lying = bomb.replace(struct.pack("<I", size), struct.pack("<I", 100))
    assert lying != bomb
    tracemalloc.start()
    with pytest.raises(BundleError, match="truncated"):
        open_bundle(lying)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20


def test_no_byte_can_be_changed_added_or_lost() -> None:
    data = small(KEY)
    open_bundle(data, key=KEY)
    for cut in range(0, len(data), 97):
        with pytest.raises(BundleError):
            open_bundle(data[:cut])
    for more in (b"x" + data, data + b"x"):
        with pytest.raises(BundleError):
            open_bundle(more)
    before = unpack(data, key=KEY)
    for at in range(0, len(data), 41):
        changed = bytearray(data)
        changed[at] ^= 0x20
        try:
            opened = unpack(bytes(changed), key=KEY)
        except BundleError:
            continue
        # Fields of the container that carry no meaning (times, versions) may differ.
        assert opened == before


def repacked(change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Honest digests of changed members: what somebody who can make bundles would do."""
    unpacked = unpack(small())
    members = dict(unpacked.members)
    change(members)
    manifest = unpacked.manifest
    return pack(members, latbench=manifest.latbench, artifacts=manifest.artifacts, key=None)


def other_record(members: dict[str, bytes]) -> None:
    members[f"records/{SECOND}.json"] = members.pop(f"records/{FIRST}.json")


def newer_record(members: dict[str, bytes]) -> None:
    path = f"records/{FIRST}.json"
    members[path] = members[path].replace(b'"schema":3', b'"schema":99', 1)


def no_record(members: dict[str, bytes]) -> None:
    members[f"records/{FIRST}.json"] = b'{"schema": 3}'


def other_artifact(members: dict[str, bytes]) -> None:
    path = f"records/{FIRST}.json"
    members[path] = members[path].replace(b"ab" * 32, b"cd" * 32)


def deep(members: dict[str, bytes]) -> None:
    members["claims.json"] = b"[" * 100_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_record, "is the record"),
        (newer_record, "newer latbench"),
        (no_record, "wrong field"),
        (other_artifact, "artifacts"),
        (deep, "not JSON"),
    ],
)
def test_right_digests_of_wrong_members(
    change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        open_bundle(repacked(change))


def test_a_newer_bundle_and_one_without_a_signature() -> None:
    members = content(small())
    newer = json.loads(members["manifest.json"]) | {"schema": 2, "more": 1}
    with pytest.raises(BundleError, match="newer latbench"):
        unpack(zipped(list((members | {"manifest.json": json.dumps(newer).encode()}).items())))
    with pytest.raises(BundleError, match="not signed"):
        unpack(small(), key=KEY)
    # The signature of one bundle is not that of another.
    other = content(pack_evidence(Evidence(records=(record(SECOND),)), key=KEY))
    mixed = members | {"signature.json": other["signature.json"]}
    with pytest.raises(BundleError, match="not of this manifest"):
        unpack(zipped(list(mixed.items())), key=KEY)


def claims_changed(made: Path, old: bytes, new: bytes) -> bytes:
    unpacked = unpack(made.read_bytes())
    members = dict(unpacked.members)
    assert old in members["claims.json"]
    members["claims.json"] = members["claims.json"].replace(old, new)
    manifest = unpacked.manifest
    return pack(members, latbench=manifest.latbench, artifacts=manifest.artifacts, key=None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"confirmed"', b'"refuted"', "stored is 'refuted'.*follows 'confirmed'"),
        (b'"6.40"', b'"5.10"', "stored is 'confirmed'.*follows 'refuted'"),
        (b'"6.40"', b'"six"', "claim planted, says.figure"),
        (FIRST.encode(), SECOND.encode(), "do not follow from the records"),
        (b'"id":"paper","title"', b'"id":"papel","title"', "its model or source is missing"),
        (b'"device"', b'"devise"', "wrong field"),
    ],
)
def test_verdicts_must_follow_from_the_records(
    made: Path, old: bytes, new: bytes, words: str
) -> None:
    assert [v.claim for v in open_bundle(made.read_bytes()).evidence.verdicts] == ["planted"]
    with pytest.raises(BundleError, match=words):
        open_bundle(claims_changed(made, old, new))


def test_a_record_that_was_edited_no_longer_confirms(made: Path) -> None:
    unpacked = unpack(made.read_bytes())
    slower = msgspec.structs.replace(record(FIRST, 8.0))
    members = dict(unpacked.members) | {f"records/{FIRST}.json": encode_record(slower)}
    data = pack(members, latbench="0.1.0", artifacts=unpacked.manifest.artifacts, key=None)
    with pytest.raises(BundleError, match="follows 'refuted'"):
        open_bundle(data)
