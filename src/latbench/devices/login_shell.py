"""Command lines for a user's login shell, whichever it is.

sshd hands a command line to the login shell of the user, which may be csh or fish. Before the line
it executes a start-up file (``.bashrc``, ``.cshrc``, ``config.fish``), which may print.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

BEGIN = b"latbench-begin"
"""A line after what start-up files print and before what the command prints."""
LONGEST_GREETING = 2**20
"""Bytes that start-up files may print."""
_MARK = b"\n" + BEGIN + b"\n"


def login_shell_line(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """A line that sh, csh and fish understand alike: it executes ``command`` after :data:`BEGIN`.

    Between quotes csh takes no line break and fish removes backslashes, so what is special
    anywhere is written as its octal number. ``exec`` leaves no shell between sshd and the program,
    which then receives its signals.
    """
    variables = [f"{name}={value}" for name, value in environment.items()]
    words = shlex.join([*(["env", *variables] if variables else []), *command])
    script = f"printf '\\n%s\\n' {BEGIN.decode()}; exec {words}"
    octal = re.sub(rb"[^\w ./=:,@+-]", lambda found: b"\\0%03o" % found[0][0], script.encode())
    return f'exec sh -c \'eval "$(printf %b "{octal.decode()}")"\''


def after_greeting(output: bytes | bytearray) -> bytes | None:
    """What follows the line :data:`BEGIN`; ``None`` if that is not there (yet)."""
    _, found, rest = output.partition(_MARK)
    return bytes(rest) if found else None
