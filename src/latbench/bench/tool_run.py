"""``latbench reported run``: run a vendor's benchmark tool on a device and keep what it reports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from latbench.artifacts.cache import CachedArtifact
from latbench.artifacts.export import export_request
from latbench.bench.import_reported import new_reported
from latbench.devices.addresses import AdbAddress, SshAddress, read_address
from latbench.devices.connections import find_connection
from latbench.devices.elf import architecture_of
from latbench.devices.programs import ProgramEnd, ProgramHost, program_host, run_program
from latbench.errors import StageError, UsageError
from latbench.events import SILENT, Events
from latbench.files import content_sha256
from latbench.reported.command_lines import ToolCommand, tool_command
from latbench.reported.program_failure import EndedProgram, last_lines, program_failure
from latbench.reported.tools import read_output
from latbench.schema.artifact import ModelIdentity
from latbench.schema.reported import ReportedResult, StatedFacts, ToolResult, ToolRun
from latbench.schema.request import Request
from latbench.zoo.resolver import identify

TIMEOUT_S = 600.0
_BY_HAND = {"ssh": "/tmp/latbench-by-hand", "adb": "/data/local/tmp/latbench-by-hand"}  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class ToolRequest:
    """Which tool is run, and how. The model, its device and threads are those of a request."""

    tool: str
    """Name of :data:`latbench.reported.command_lines.TOOL_COMMANDS`."""
    binary: str | None = None
    """The program's file here, with ``@sha256:DIGEST`` if it must have that digest."""
    installed: str | None = None
    """Instead, the path of a program that is on the device already."""
    libraries: tuple[Path, ...] = ()
    """Files that the program needs beside it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    """The tool's own options."""
    tool_version: str | None = None
    timeout_s: float = TIMEOUT_S
    no_cache: bool = False

    @property
    def name(self) -> str:
        """Name of the program's file."""
        path = self.installed or self._binary_parts()[0]
        return PurePosixPath(path.replace("\\", "/")).name

    def checked_binary(self) -> Path:
        """The program's file. Raises :class:`UsageError` if it is missing or another one."""
        path, wanted = self._binary_parts()
        found = Path(path)
        if not found.is_file():
            raise UsageError(f"there is no program {path}", hint="--binary names its file here")
        if wanted is not None and (digest := content_sha256(found)) != wanted:
            raise UsageError(f"{path} is not the program that was asked for: sha256 {digest}")
        return found

    def _binary_parts(self) -> tuple[str, str | None]:
        match = re.fullmatch(r"(.+)@sha256:([0-9a-f]{64})", self.binary or "")
        return (match[1], match[2]) if match else (self.binary or "", None)


def run_tool(
    request: Request, tool: ToolRequest, *, registry: str | None = None, events: Events = SILENT
) -> ReportedResult:
    """Export the model of ``request``, run the tool with it on its device, store what it reports.

    The result is *reported*: latbench took no samples. Raises :class:`UsageError` for an invalid
    request and :class:`StageError` if the tool gives no result; a result with the failure and the
    output is stored then, and the hint names it.
    """
    from latbench.store.registry import Registry

    how, identity = _checked(request, tool)
    with Registry.open(registry) as store:
        cached = export_request(request, how.format, no_cache=tool.no_cache, events=events)
        with program_host(request.device, events.warn) as host:
            run, failure = _ran(request, tool, how, identity, cached, host)
        found = failure or _read(how, run)
        entry = new_reported(
            f"{tool.name}.txt",
            run.output.encode(),
            _stated(request, tool, run),
            ToolResult(tool=tool.tool, form="none") if isinstance(found, StageError) else found,
            run,
            found.failure if isinstance(found, StageError) else None,
        )
        store.add_many((), (entry,))
    if isinstance(found, StageError):
        raise _stored(found, entry)
    return entry


def by_hand(request: Request, tool: ToolRequest, *, events: Events = SILENT) -> tuple[str, ...]:
    """Commands that do by hand what :func:`run_tool` does on the device; nothing is started.

    The model is exported. Raises :class:`UsageError` and :class:`StageError`.
    """
    how, _ = _checked(request, tool)
    path = export_request(request, how.format, no_cache=tool.no_cache, events=events).path
    files = [path, *tool.libraries]
    if tool.installed is None:
        files.append(tool.checked_binary())
    connection = find_connection(request.device)
    address = read_address(connection.address) if connection else None
    if not isinstance(address, SshAddress | AdbAddress):
        program = tool.installed or str(tool.checked_binary().absolute())
        words = how.words(str(path), request.threads, tool.extra)
        folders = dict.fromkeys(str(each.absolute().parent) for each in tool.libraries)
        return (shlex.join(_command(program, words, _variables(tool, folders))),)
    folder = _BY_HAND[address.transport]
    program = tool.installed or f"{folder}/{tool.name}"
    words = how.words(f"{folder}/{path.name}", request.threads, tool.extra)
    folders = {folder: None} if tool.libraries else {}
    there = shlex.join(_command(program, words, _variables(tool, folders)))
    ready = "" if tool.installed else f"chmod 700 {shlex.quote(program)} && "
    if isinstance(address, AdbAddress):
        shell: tuple[str, ...] = ("adb", "-s", address.serial, "shell")
        copy = ("adb", "-s", address.serial, "push", *map(str, files), f"{folder}/")
    else:
        login = f"{address.user}@{address.host}" if address.user else address.host
        port = ("-p", str(address.port)) if address.port else ()
        shell = ("ssh", *port, login)
        copy = ("scp", "-r", *(each.upper() if each == "-p" else each for each in port))
        copy = (*copy, *map(str, files), f"{login}:{folder}/")
    return tuple(
        shlex.join(each)
        for each in ((*shell, f"mkdir -p {folder}"), copy, (*shell, f"{ready}{there}"))
    )


def _checked(request: Request, tool: ToolRequest) -> tuple[ToolCommand, ModelIdentity]:
    how = tool_command(tool.tool)
    if (tool.binary is None) == (tool.installed is None):
        raise UsageError(
            "which program is to be run?",
            hint="--binary PATH for a file here, or --installed PATH for one on the device",
        )
    if tool.installed is not None and not tool.installed.startswith("/"):
        raise UsageError(
            f"{tool.installed!r} is not an absolute path", hint="--installed names one there"
        )
    for each in tool.libraries:
        if not each.is_file():
            raise UsageError(f"there is no library {each}")
    if not 0 < tool.timeout_s <= 86_400:
        raise UsageError(f"the time limit must be above 0 and at most a day, not {tool.timeout_s}")
    how.words("", request.threads, ())
    if tool.binary is not None:
        tool.checked_binary()
    return how, identify(request)


def _ran(
    request: Request,
    tool: ToolRequest,
    how: ToolCommand,
    identity: ModelIdentity,
    cached: CachedArtifact,
    host: ProgramHost,
) -> tuple[ToolRun, StageError | None]:
    """The run, and why it gave no result if the program itself says so."""
    architecture, digest = None, None
    if tool.installed is None:
        binary = tool.checked_binary()
        program = host.put(binary, executable=True)
        architecture, digest = architecture_of(binary), content_sha256(binary)
    else:
        program = tool.installed
        digest = host.sha256(program)
    libraries = {each.name: host.put(each) for each in tool.libraries}
    folders = dict.fromkeys(str(PurePosixPath(each).parent) for each in libraries.values())
    variables = _variables(tool, folders)
    words = how.words(host.put(cached.path), request.threads, tool.extra)
    before = host.conditions()
    ended = run_program(host, _command(program, words, variables), limit_s=tool.timeout_s)
    run = ToolRun(
        command=(program, *words),
        variables=variables,
        program=tool.name,
        program_sha256=digest,
        libraries={each.name: content_sha256(each) for each in tool.libraries},
        model=identity,
        artifact=cached.artifact,
        device=host.row,
        address=host.address,
        reserved=ended.reserved,
        machine=host.machine,
        before=before,
        after=host.conditions(),
        started_unix_ns=ended.started_unix_ns,
        wall_ns=ended.wall_ns,
        output=ended.output,
    )
    return run, _failure(tool, host, ended, architecture)


def _variables(tool: ToolRequest, folders: Mapping[str, object]) -> dict[str, str]:
    """The user's variables, and where the dynamic linker finds the libraries."""
    path = ":".join(folders)
    found = {"LD_LIBRARY_PATH": path, "DYLD_LIBRARY_PATH": path} if path else {}
    return {**found, **tool.variables}


def _command(program: str, words: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    own = ("env", *(f"{name}={value}" for name, value in variables.items())) if variables else ()
    return (*own, program, *words)


def _failure(
    tool: ToolRequest, host: ProgramHost, ended: ProgramEnd, architecture: str | None
) -> StageError | None:
    return program_failure(
        EndedProgram(
            name=tool.name,
            place="on this machine" if host.address is None else f"on {host.row.id}",
            status=ended.status,
            output=ended.output,
            limit_s=tool.timeout_s,
            timed_out=ended.timed_out,
            architecture=architecture,
            machine=host.architecture or None,
        )
    )


def _read(how: ToolCommand, run: ToolRun) -> ToolResult | StageError:
    """What the output says, or why it says nothing."""
    try:
        return read_output(run.output.encode(), how.reader)
    except UsageError as error:
        return StageError(
            "time",
            f"{run.program} ended, but its output is not understood: {error.message}",
            hint=error.hint,
            detail=last_lines(run.output),
        )


def _stored(error: StageError, entry: ReportedResult) -> StageError:
    """The error with the entry that it is stored in."""
    failure = error.failure
    where = f"all that it wrote: latbench reported show {entry.id} --output"
    return StageError.of(
        msgspec.structs.replace(failure, hint="; ".join(filter(None, (failure.hint, where))))
    )


def _stated(request: Request, tool: ToolRequest, run: ToolRun) -> StatedFacts:
    return StatedFacts(
        model=run.model.name,
        device=run.device.id,
        precision=run.artifact.precision,
        batch=request.batch,
        resolution=request.resolution,
        tool_version=tool.tool_version,
    )
