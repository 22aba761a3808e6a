"""A strict reader of the product's YAML files: text in, values out, errors with file, line and key.

A data file needs mappings, lists and plain scalars. Other features of YAML are rejected: anchors
and aliases (a few lines can expand to gigabytes), tags (which can name code), several documents and
duplicate keys. Words such as `no`, `1:30` and dates are not converted but stay text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import msgspec

from latbench.errors import UsageError, first_line

Loader: TypeAlias = Any
"""A PyYAML loader; its methods have no types."""
T = TypeVar("T")
YamlPath = tuple[str | int, ...]

LIMIT_BYTES = 4_000_000
LIMIT_DEPTH = 32
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]{1,3})?|[eE][-+]?[0-9]{1,3})")
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


class Document:
    """A parsed file with the line of each value."""

    def __init__(self, where: str, tree: object, lines: dict[YamlPath, int]) -> None:
        self._where = where
        self._lines = lines
        self.tree = tree

    def convert(self, type: type[T]) -> T:
        """Convert the whole document to ``type``. Raise :class:`UsageError`."""
        try:
            return msgspec.convert(self.tree, type)
        except msgspec.ValidationError as error:
            raise self._explained(str(error), type) from error

    def error(self, path: YamlPath, message: str, hint: str | None = None) -> UsageError:
        """Return an error about the value at ``path``, or about its nearest known parent."""
        line = next(
            (self._lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self._lines), 1
        )
        key = f"{_shown(path)}: " if path else ""
        return UsageError(f"{self._where}:{line}: {key}{message}", hint=hint)

    def place(self, path: YamlPath) -> str:
        """Return file and line of the value at ``path``."""
        return f"{self._where}:{self._lines[path]}"

    def _explained(self, message: str, type: type) -> UsageError:
        """Add file and line to msgspec's error, which has a path such as ``$.devices[3].soc``."""
        text, _, place = message.partition(" - at `$")
        path = _parsed(place.rstrip("`"))
        unknown = re.search(r"unknown field `(.+)`$", text)
        if unknown:
            known = _known_fields(type, path)
            close = difflib.get_close_matches(unknown[1], known, n=2)
            return self.error(
                (*path, unknown[1]),
                "unknown key",
                f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}",
            )
        return self.error(path, text[:1].lower() + text[1:])


def parse(content: str | bytes, where: str) -> Document:
    """Parse one YAML document; messages call it ``where``. Raise :class:`UsageError`."""
    import yaml

    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{where}:{line}: not UTF-8 text") from error
    if len(text) > LIMIT_BYTES:
        raise UsageError(f"{where}: {len(text)} characters, but the limit is {LIMIT_BYTES}")
    loader: Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return _Reader(where).document(loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UsageError(
            f"{where}:{mark.line + 1 if mark else 1}: {error.problem or error.context}"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        # Errors from control characters and lone surrogates have no line marks.
        raise UsageError(f"{where}: {first_line(error)}") from error
    finally:
        loader.dispose()


class _Reader:
    """Build the tree from the parser's events, so that nothing is expanded or constructed."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: dict[YamlPath, int] = {}

    def document(self, loader: Loader) -> Document:
        import yaml

        loader.get_event()  # the start of the stream
        if isinstance(loader.peek_event(), yaml.StreamEndEvent):
            raise UsageError(f"{self._where}:1: the file is empty")
        loader.get_event()  # the start of the document
        tree = self._value(loader, ())
        loader.get_event()  # the end of the document
        after = loader.get_event()
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refused(after, "a second document")
        return Document(self._where, tree, self._lines)

    def _value(self, loader: Loader, path: YamlPath) -> object:
        import yaml

        event = loader.get_event()
        self._lines.setdefault(path, _line(event))
        if len(path) > LIMIT_DEPTH:
            raise self._refused(event, f"nesting deeper than {LIMIT_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(event, "an alias (*name)")
        if getattr(event, "anchor", None):
            raise self._refused(event, "an anchor (&name)")
        if getattr(event, "tag", None):
            raise self._refused(event, f"a tag ({event.tag})")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else _scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(loader, path)
        return self._mapping(loader, path)

    def _sequence(self, loader: Loader, path: YamlPath) -> list[object]:
        import yaml

        items: list[object] = []
        while not isinstance(loader.peek_event(), yaml.SequenceEndEvent):
            items.append(self._value(loader, (*path, len(items))))
        loader.get_event()
        return items

    def _mapping(self, loader: Loader, path: YamlPath) -> dict[str, object]:
        import yaml

        entries: dict[str, object] = {}
        while not isinstance(loader.peek_event(), yaml.MappingEndEvent):
            event = loader.get_event()
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                raise self._refused(event, "a key that is not a plain scalar")
            key: str = event.value
            if key == "<<":
                raise self._refused(event, "a merge key (<<)")
            if key in entries:
                raise UsageError(
                    f"{self._where}:{line}: {_shown((*path, key))}: "
                    f"duplicate key (first on line "
                    f"{self._lines[(*path, key)]})"
                )
            self._lines[(*path, key)] = line
            entries[key] = self._value(loader, (*path, key))
        loader.get_event()
        return entries

    def _refused(self, event: Any, what: str) -> UsageError:
        return UsageError(
            f"{self._where}:{_line(event)}: {what} is not allowed here",
            hint="use only mappings, lists and plain values",
        )


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _scalar(text: str) -> object:
    """Parse a plain scalar by YAML 1.2's core rules, without octal, hexadecimal, infinity or
    NaN."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if FLOAT.fullmatch(text) else text


def _parsed(place: str) -> YamlPath:
    """Parse a path: ``.devices[3].soc`` -> ``("devices", 3, "soc")``."""
    return tuple(
        int(index) if index else name for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", place)
    )


def _shown(path: Iterable[str | int]) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in path
    ).removeprefix(".")


def _known_fields(type: Any, path: YamlPath) -> tuple[str, ...]:
    """Return the fields of the struct at ``path`` inside ``type``."""
    info = msgspec.inspect.type_info(type)
    for part in path:
        info = next(iter(_structs(_step(info, part))), info)
    structs = _structs(info)
    return tuple(field.encode_name for struct in structs for field in struct.fields)


def _step(info: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return getattr(info, "item_type", info)
    for struct in _structs(info):
        for field in struct.fields:
            if field.encode_name == part:
                return field.type
    return info


def _structs(info: Any) -> list[Any]:
    """Return the structs that a type description contains, through unions and collections."""
    if isinstance(info, msgspec.inspect.StructType):
        return [info]
    if isinstance(info, msgspec.inspect.UnionType):
        return [struct for member in info.types for struct in _structs(member)]
    return _structs(info.item_type) if hasattr(info, "item_type") else []
