"""What a long operation reports while it runs."""

from __future__ import annotations

from collections.abc import Callable

Warn = Callable[[str], None]
