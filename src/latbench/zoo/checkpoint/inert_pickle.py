"""Read pickles as data.

A pickle is a program that imports and calls what it names. This reader executes it with the calls
taken out: what an unknown class would have made becomes an :class:`Opaque` that keeps the class's
name and what it was given. Nothing is imported, so a hostile file can do no more than be refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Build = Callable[..., object]
"""Makes a value from the arguments that the pickle gives."""


class Stream(Protocol):
    """A file or memory map that is read forward."""

    def read(self, size: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, position: int, /) -> object: ...


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names."""

    name: str
    """With its module: ``argparse.Namespace``."""


@dataclass(eq=False)
class Opaque:
    """What an unknown class or function would have made."""

    name: str
    arguments: tuple[object, ...] = ()
    state: object = None
    items: dict[Any, object] = field(default_factory=dict)
    elements: list[object] = field(default_factory=list)


class Mark:
    """The place on the stack where the parts of a container begin."""


def read_pickle(
    source: Stream,
    known: Mapping[str, Build],
    persistent: Callable[[Any], object] | None = None,
) -> object:
    """The value of one pickle; ``source`` is left behind its end.

    ``known`` has a function of this program for each class or function that is understood, and
    ``persistent`` returns what the file holds outside the pickle. Raises :class:`ValueError` or
    another built-in exception for a damaged pickle.
    """
    reader = _Reader(known, persistent)
    for operation, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
        if operation.name == "STOP":
            return reader.stack.pop()
        reader.execute(operation.name, argument)
    raise ValueError("the pickle has no end")


class _Reader:
    """The pickle machine: a stack and a memory of values by number."""

    def __init__(
        self, known: Mapping[str, Build], persistent: Callable[[Any], object] | None
    ) -> None:
        self.stack: list[Any] = []
        self._memory: dict[int, object] = {}
        self._known = known
        self._persistent = persistent

    def execute(self, name: str, argument: Any) -> None:
        """Execute one operation, by its name in :mod:`pickletools`."""
        if name in PUSHES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            self._put_tuple(TUPLES[name])
        elif name not in IGNORED:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise ValueError(f"the pickle uses {name}, which is not supported")
            method(argument)

    def _parts(self) -> list[Any]:
        """Take what lies above the latest mark, and the mark."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], Mark):
            at -= 1
            if at < 0:
                raise ValueError("the pickle closes a container that it has not opened")
        parts = self.stack[at + 1 :]
        del self.stack[at:]
        return parts

    def _put_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise ValueError("the pickle takes more values than it has")
        parts = self.stack[len(self.stack) - size :]
        del self.stack[len(self.stack) - size :]
        self.stack.append(tuple(parts))

    def _make(self, made_by: object, arguments: object) -> object:
        if not isinstance(made_by, Global):
            made_by = Global(made_by.name if isinstance(made_by, Opaque) else "an unknown function")
        given = tuple(arguments) if isinstance(arguments, tuple | list) else ()
        if made_by.name in (
            "copyreg._reconstructor",
            "copy_reg._reconstructor",
            "copyreg.__newobj__",
        ):
            return self._make(given[0], given[3:])
        build = self._known.get(made_by.name)
        return Opaque(made_by.name, given) if build is None else build(*given)

    # Containers

    def _mark(self, _: object) -> None:
        self.stack.append(Mark())

    def _pop(self, _: object) -> None:
        self.stack.pop()

    def _pop_mark(self, _: object) -> None:
        self._parts()

    def _dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: object) -> None:
        self.stack.append(tuple(self._parts()))

    def _list(self, _: object) -> None:
        self.stack.append(self._parts())

    def _dict(self, _: object) -> None:
        parts = self._parts()
        self.stack.append(dict(zip(parts[::2], parts[1::2], strict=True)))

    def _frozenset(self, _: object) -> None:
        self.stack.append(frozenset(self._parts()))

    def _append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: object) -> None:
        self._extend(self._parts())

    def _extend(self, parts: list[object]) -> None:
        target = self.stack[-1]
        elements = target.elements if isinstance(target, Opaque) else target
        if not isinstance(elements, list):
            raise ValueError("the pickle appends to something else than a list")
        elements.extend(parts)

    def _additems(self, _: object) -> None:
        parts = self._parts()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError("the pickle adds to something else than a set")
        target.update(parts)

    def _setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: object) -> None:
        self._update(self._parts())

    def _update(self, parts: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Opaque) else target
        if not isinstance(items, dict):
            raise ValueError("the pickle sets an item of something else than a dictionary")
        items.update(zip(parts[::2], parts[1::2], strict=True))

    # Memory

    def _put(self, number: int) -> None:
        self._memory[number] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: object) -> None:
        self._memory[len(self._memory)] = self.stack[-1]

    def _get(self, number: int) -> None:
        self.stack.append(self._memory[number])

    _binget = _long_binget = _get

    # Objects

    def _global(self, argument: str) -> None:
        self.stack.append(Global(".".join(argument.split(" ", 1))))

    def _stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(f"{module}.{name}"))

    def _reduce(self, _: object) -> None:
        arguments, made_by = self.stack.pop(), self.stack.pop()
        self.stack.append(self._make(made_by, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: object) -> None:
        self.stack.pop()  # keyword arguments
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        parts = self._parts()
        self.stack.append(self._make(Global(".".join(argument.split(" ", 1))), parts))

    def _obj(self, _: object) -> None:
        made_by, *arguments = self._parts()
        self.stack.append(self._make(made_by, arguments))

    def _build(self, _: object) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Opaque):
            self.stack[-1].state = state

    def _persid(self, identifier: object) -> None:
        if self._persistent is None:
            raise ValueError("the pickle refers to data outside it")
        self.stack.append(self._persistent(identifier))

    def _binpersid(self, _: object) -> None:
        self._persid(self.stack.pop())


PUSHES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BYTEARRAY8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
"""Operations that push their argument."""
CONSTANTS: Mapping[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor")
"""How protocols 0 and 1 make an object: its class is the first argument."""
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = frozenset({"PROTO", "FRAME"})
