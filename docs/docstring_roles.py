"""Griffe extension: show the Sphinx roles of docstrings, such as ``:func:`run```, as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]+\.)?(\w+)`")


class DocstringRoles(griffe.Extension):
    """Replace roles by the last part of the name that they refer to."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
