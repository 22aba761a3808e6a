"""Whether the package that a runtime is in is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from latbench.api import Capability


def package_capability(package: str, *, extra: str, unit: str) -> Capability:
    """Available, with the package's version, if ``package`` is installed; imports nothing.

    ``extra`` is the extra of latbench that installs it, ``unit`` the compute unit that the runtime
    always has.
    """
    try:
        return Capability(available=True, version=version(package), units=(unit,))
    except PackageNotFoundError:
        return Capability(
            available=False,
            reason=f"{package} is not installed",
            hint=f"pip install 'latbench[{extra}]'",
        )
