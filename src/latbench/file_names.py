"""File names of any bytes in texts that are UTF-8: records, messages, JSON, commands.

Python represents each byte of a name that is not UTF-8 by a lone surrogate, which no UTF-8 text can
hold. Where a name is stored or sent, such a byte is written as ``\\xff``. So that the name can be
restored, a backslash that would look like the beginning of such an escape is written as ``\\x5c``.
All other names are stored as they are.
"""

from __future__ import annotations

import re
import shlex

_TO_ESCAPE = re.compile(r"[\udc80-\udcff]|\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f]|5c)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = 0xDC00
"""A byte that is not UTF-8 is this much higher as a surrogate."""


def stored_name(name: str) -> str:
    """Return ``name`` as a text that can be stored; :func:`restored_name` is the inverse.

    Raise :class:`UnicodeEncodeError` for surrogates that stand for no byte.
    """
    text = _TO_ESCAPE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)
    text.encode()
    return text


def restored_name(text: str) -> str:
    """Return the name that :func:`stored_name` made ``text`` of."""

    def character(found: re.Match[str]) -> str:
        byte = int(found[1], 16)
        return chr(byte if byte < 0x80 else _BYTE + byte)

    return _ESCAPED.sub(character, text)


def shown_name(text: str) -> str:
    """Return ``text``, such as a message with names in it, with what is not UTF-8 escaped."""

    def escape(found: re.Match[str]) -> str:
        byte = ord(found[0]) - _BYTE
        return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else f"\\u{ord(found[0]):04x}"

    return text if text.isascii() else _SURROGATE.sub(escape, text)


def shell_word(name: str, *, argument: bool = False) -> str:
    """Quote ``name`` for a shell; for bash, zsh and newer ones, if it cannot be printed.

    With ``argument``, a file whose name begins with a dash is not mistaken for an option.
    """
    if argument and name.startswith("-"):
        name = f"./{name}"
    if name.isprintable():
        return shlex.quote(name)
    return f"$'{''.join(map(_ansi_c, name))}'"


def shell_command(words: list[str]) -> str:
    """Join words, quoted by :func:`shell_word`, to a command."""
    return " ".join(map(shell_word, words))


def _ansi_c(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    if _BYTE + 0x80 <= ord(character) <= _BYTE + 0xFF:
        return f"\\x{ord(character) - _BYTE:02x}"
    return character.encode("unicode_escape").decode()
