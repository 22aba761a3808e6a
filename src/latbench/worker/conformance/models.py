"""Models whose outputs are their inputs, with which a worker shows what it feeds to a runtime.

Those of the backends that latbench knows are files beside this module, listed in ``models.json``;
the author of another backend gives one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from latbench.errors import UsageError
from latbench.schema.artifact import Artifact, TensorSpec
from latbench.schema.input_content import read_shape
from latbench.worker import messages

FOLDER = Path(__file__).parent / "identity"


class IdentityModel(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose output number k is its input number k."""

    backend: str
    format: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / self.file

    def request(
        self,
        *,
        path: Path | None = None,
        backend: str | None = None,
        seed: int = 0,
        contents: Mapping[str, str] | None = None,
        stored: Path | None = None,
        extra: Mapping[str, str] | None = None,
        pinned: bool = False,
    ) -> messages.Open:
        """The request to open it, or what is given instead of parts of it."""
        return messages.Open(
            backend=backend or self.backend,
            artifact=self._artifact(contents or {}),
            path=str(path or self.path),
            threads=1,
            seed=seed,
            process=0,
            extra=extra or {},
            inputs=None if stored is None else str(stored),
            pinned=pinned,
        )

    def specs(self, contents: Mapping[str, str]) -> tuple[TensorSpec, ...]:
        """Its inputs, with the contents of those that have one."""
        return tuple(
            msgspec.structs.replace(spec, content=contents.get(spec.name)) for spec in self.inputs
        )

    def _artifact(self, contents: Mapping[str, str]) -> Artifact:
        data = self.path.read_bytes() if self.path.is_file() else b""
        return Artifact(
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            format=self.format,
            precision="fp32",
            inputs=self.specs(contents),
            outputs=self.outputs,
            counts=None,
            model_counts=None,
            trained_parameters=None,
            parity=None,
            details={},
            toolchain={},
        )


def known_models() -> tuple[IdentityModel, ...]:
    """The models that latbench has, at most one for each backend."""
    text = FOLDER.with_suffix(".json").read_bytes()
    return msgspec.json.decode(text, type=tuple[IdentityModel, ...])


def given_model(backend: str, file: Path, inputs: Sequence[TensorSpec]) -> IdentityModel:
    """The model in ``file``; its outputs have the names of its inputs."""
    if not inputs:
        raise UsageError(
            f"the inputs of {file} are not known",
            hint="--shape NAME=2x3:float32, for each in order",
        )
    return IdentityModel(
        backend=backend,
        format=file.suffix.lstrip(".") or backend,
        file=str(file.resolve()),
        inputs=tuple(inputs),
        outputs=tuple(inputs),
    )


def read_specs(texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Read ``NAME=2x3:float32`` for each input. Raise :class:`UsageError`."""
    import numpy as np

    specs = []
    for text in texts:
        name, shape, dtype = read_shape(text)
        try:
            known = np.dtype(dtype or "float32").name
        except TypeError:
            raise UsageError(f"{text!r} has an unknown type", hint="such as float32") from None
        if not name:
            raise UsageError(f"{text!r} has no name", hint=f"NAME={text}")
        specs.append(TensorSpec(name=name, shape=shape, dtype=known))
    return tuple(specs)
