"""The evidence bundle as a file: named JSON members, their digests, a signature.

Nothing is extracted to disk and nothing in it is executed. Whatever is not exactly as
``docs/BUNDLES.md`` says is refused: a file that is evidence has no room for surprises.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from latbench.errors import LatbenchError, UsageError
from latbench.schema.value import Value

SCHEMA = 1
MANIFEST, SIGNATURE, CLAIMS = "manifest.json", "signature.json", "claims.json"
RECORD = re.compile(r"records/([0-9a-z]{1,64})\.json")
REPORTED_MEMBER = re.compile(r"reported/([0-9a-z]{1,64})\.json")
SIGNED_AS = b"latbench bundle manifest 1\n"
"""Before the manifest in what is signed, so that no other file of ours signs the same bytes."""
MAX_FILE_BYTES = 256 * 2**20
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 512 * 2**20
MAX_MEMBERS = 10_000
KEY_BYTES = (16, 65_536)
LOCAL_HEADER, CENTRAL_HEADER, END_HEADER = 30, 46, 22
"""Bytes that ZIP puts around a member, without its name and without optional fields."""

SignatureState = Literal["unsigned", "signed, no key given", "signed, the key fits"]


class BundleError(LatbenchError):
    """The bundle does not verify (exit status 1)."""


class Member(Value, frozen=True, kw_only=True):
    """One file of the bundle, other than the manifest and its signature."""

    path: str
    size_bytes: int
    sha256: str


class ArtifactDigest(Value, frozen=True, kw_only=True):
    """An exported file that records are of; the file itself is not in the bundle."""

    sha256: str
    size_bytes: int
    format: str
    precision: str


class Manifest(Value, frozen=True, kw_only=True):
    """What the bundle holds, and which latbench wrote it."""

    schema: int
    latbench: str
    artifacts: tuple[ArtifactDigest, ...]
    members: tuple[Member, ...]


class Signature(Value, frozen=True, kw_only=True):
    """Of the manifest, by a key that two parties share."""

    algorithm: Literal["hmac-sha256"]
    value: str


class Unpacked(Value, frozen=True, kw_only=True):
    """Members whose digests are those of the manifest."""

    manifest: Manifest
    manifest_sha256: str
    """Names the evidence: equal where every member is."""
    signature: SignatureState
    members: dict[str, bytes]


def pack(
    members: Mapping[str, bytes],
    *,
    latbench: str,
    artifacts: tuple[ArtifactDigest, ...],
    key: bytes | None,
) -> bytes:
    """The same bytes for the same members and key. Raises :class:`UsageError` for too large ones.

    No time is stored: when a record was made it says itself.
    """
    manifest = Manifest(
        schema=SCHEMA,
        latbench=latbench,
        artifacts=artifacts,
        members=tuple(
            Member(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in sorted(members.items())
        ),
    )
    content = {**members, MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=1)}
    if key is not None:
        signature = Signature(algorithm="hmac-sha256", value=_signed(content[MANIFEST], key))
        content[SIGNATURE] = msgspec.json.encode(signature)
    for path, data in content.items():
        if len(data) > MAX_MEMBER_BYTES:
            raise UsageError(f"{path} is too large for a bundle: {len(data):,} bytes")
    if len(content) > MAX_MEMBERS or sum(map(len, content.values())) > MAX_TOTAL_BYTES:
        raise UsageError("these are too many records for one bundle", hint="make several")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, data in sorted(content.items()):
            info = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # the same on every system
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    packed = out.getvalue()
    if len(packed) > MAX_FILE_BYTES:
        raise UsageError("these are too many records for one bundle", hint="make several")
    return packed


def unpack(data: bytes, *, key: bytes | None = None) -> Unpacked:
    """The members, after their form, the signature and the digests were checked.

    Raises :class:`BundleError`, also for an unsigned bundle where a key is given.
    """
    members = _members(data)
    if MANIFEST not in members:
        raise BundleError(
            f"the bundle has no {MANIFEST}", hint="not a latbench bundle, or truncated"
        )
    raw = members.pop(MANIFEST)
    signature = _signature(raw, members.pop(SIGNATURE, None), key)
    manifest = _manifest(raw)
    listed = {member.path: member for member in manifest.members}
    if len(listed) != len(manifest.members):
        raise BundleError(f"{MANIFEST} lists a member twice")
    if missing := sorted(listed.keys() - members.keys()):
        raise BundleError(f"missing from the bundle: {missing[0]}, which {MANIFEST} lists")
    if extra := sorted(members.keys() - listed.keys()):
        raise BundleError(f"the bundle holds {extra[0]}, which {MANIFEST} does not list")
    for path, content in members.items():
        member = listed[path]
        if (
            len(content) != member.size_bytes
            or hashlib.sha256(content).hexdigest() != member.sha256
        ):
            raise BundleError(
                f"{path} was changed: its SHA-256 is not that of {MANIFEST}",
                hint="ask for the bundle again",
            )
    return Unpacked(
        manifest=manifest,
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        signature=signature,
        members=members,
    )


def _members(data: bytes) -> dict[str, bytes]:
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(f"the bundle is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_form(infos, archive, len(data))
            return {info.filename: _content(archive, info) for info in infos}
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, ValueError),
        *(NotImplementedError, RuntimeError, OSError),
    ) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise BundleError(
            f"not a latbench bundle, or truncated: {reason}", hint="ask for the file again"
        ) from error


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # Without a limit zipfile unpacks up to 2 GiB at once before it looks at the stated size.
    with archive.open(info) as stream:
        return stream.read(info.file_size + 1)


def _check_form(infos: list[zipfile.ZipInfo], archive: zipfile.ZipFile, size: int) -> None:
    """Before anything is unpacked: names, kinds, sizes, and no byte that belongs to no member."""
    if len(infos) > MAX_MEMBERS:
        raise BundleError(f"the bundle holds more than {MAX_MEMBERS:,} members")
    seen: set[str] = set()
    at, central = 0, 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.orig_filename
        _check_name(name, seen)
        seen.add(name)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise BundleError(f"{name!r} in the bundle is a link, or no file")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{name!r} in the bundle is packed in a way that no bundle uses")
        if info.file_size > MAX_MEMBER_BYTES:
            raise BundleError(
                f"{name!r} would unpack to {info.file_size:,} bytes; at most "
                f"{MAX_MEMBER_BYTES:,} are read"
            )
        if info.header_offset != at:
            raise BundleError("the bundle holds bytes that belong to no member, or to two")
        at += LOCAL_HEADER + len(name) + info.compress_size
        central += CENTRAL_HEADER + len(name)
    if sum(info.file_size for info in infos) > MAX_TOTAL_BYTES:
        raise BundleError(f"the bundle would unpack to more than {MAX_TOTAL_BYTES:,} bytes")
    if archive.comment or at + central + END_HEADER != size:
        raise BundleError("the bundle holds bytes that belong to no member")


def _check_name(name: str, seen: set[str]) -> None:
    parts = re.split(r"[/\\]", name)
    if ".." in parts or not parts[0] or ":" in name or "\0" in name:
        raise BundleError(f"{name!r} in the bundle points out of it", hint="do not trust this file")
    known = name in (MANIFEST, SIGNATURE, CLAIMS)
    if not (known or RECORD.fullmatch(name) or REPORTED_MEMBER.fullmatch(name)):
        raise BundleError(
            f"the bundle holds {name!r}, which no bundle has",
            hint="it was changed, or a newer latbench wrote it",
        )
    if name in seen:
        raise BundleError(f"the bundle holds {name!r} twice", hint="do not trust this file")


def _manifest(raw: bytes) -> Manifest:
    tree = decode_checked(raw, MANIFEST)
    found = tree.get("schema") if isinstance(tree, dict) else None
    if isinstance(found, int) and found > SCHEMA:
        raise BundleError(
            f"the bundle was written by a newer latbench (schema {found}; this one reads up to "
            f"{SCHEMA})",
            hint="upgrade latbench",
        )
    if found != SCHEMA:
        raise BundleError(f"{MANIFEST} has no schema number, or one that never was")
    try:
        return msgspec.convert(tree, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{MANIFEST} has a wrong field: {error}") from error


def decode_checked(raw: bytes, path: str) -> object:
    """JSON, or :class:`BundleError` with the member's name."""
    try:
        tree: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} in the bundle is not JSON: {error}") from error
    return tree


def _signature(manifest: bytes, raw: bytes | None, key: bytes | None) -> SignatureState:
    if raw is None:
        if key is not None:
            raise BundleError(
                "a key is given, and the bundle is not signed",
                hint="without --key only its digests are checked",
            )
        return "unsigned"
    try:
        signature = msgspec.json.decode(raw, type=Signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{SIGNATURE} cannot be read: {error}") from error
    if key is None:
        return "signed, no key given"
    if not hmac.compare_digest(signature.value.encode(), _signed(manifest, key).encode()):
        raise BundleError(
            "the signature is not of this manifest and this key",
            hint="another key, or the bundle was changed after it was signed",
        )
    return "signed, the key fits"


def _signed(manifest: bytes, key: bytes) -> str:
    least, most = KEY_BYTES
    if not least <= len(key) <= most:
        raise UsageError(
            f"the key has {len(key)} bytes: {least} to {most:,} are taken",
            hint="`head -c 32 /dev/urandom > FILE` makes one",
        )
    return hmac.new(key, SIGNED_AS + manifest, hashlib.sha256).hexdigest()
