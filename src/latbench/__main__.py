"""The command ``latbench``, also as ``python -m latbench``."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line, if limits let it be loaded."""
    try:
        from latbench.cli import main as command
    except (MemoryError, OSError):
        os.write(2, b"latbench: not enough memory or open files to start\n")
        os._exit(3)
    except KeyboardInterrupt:
        os.write(2, b"latbench: interrupted\n")
        os._exit(3)
    command()


if __name__ == "__main__":
    main()
