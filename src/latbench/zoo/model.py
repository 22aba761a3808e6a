"""A model known by its identity, built on first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from latbench.errors import choice_option
from latbench.schema.artifact import Counts, ModelIdentity, TensorSpec
from latbench.zoo import catalog

if TYPE_CHECKING:
    from torch import nn

    from latbench.zoo.builder import BuiltModel

if TYPE_CHECKING:
    Source = Literal["zoo", "timm", "user", "file"]


Form = Literal["deploy", "trained"]
"""Branches fused and BatchNorm folded, or as the authors train it."""


FORMS: dict[str, Form] = {form: form for form in get_args(Form)}


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """An ``api.Model``: known by identity at once, built on first use."""

    identity: ModelIdentity
    weights: Path | None
    seed: int
    entry: catalog.ZooModel | None = None
    """Of the zoo's own models."""
    path: Path | None = None
    """Of a ready file, which needs no building."""
    source: Path | None = None
    """Of a user's own: the file that holds the factory."""
    factory: str | None = None
    search: tuple[str, ...] = ()
    """Where a user's own finds its imports."""
    form: Form = "deploy"

    def module(self) -> nn.Module:
        """The network in its form, in eval mode. Raises :class:`StageError`."""
        return self._built.module

    def inputs(self) -> tuple[TensorSpec, ...]:
        """One image tensor, NCHW, float32."""
        return self._built.inputs

    def counts(self) -> Counts:
        """Of that form at the input's shape."""
        return self._built.counts

    def trained_parameters(self) -> int:
        """Parameters before fusion and folding, all heads included."""
        return self._built.trained_parameters

    @cached_property
    def _built(self) -> BuiltModel:
        from latbench.zoo.builder import build

        return build(self)


def read_form(text: str) -> Form:
    """The form of that name. Raises :class:`UsageError`."""
    return FORMS[choice_option("form", text, FORMS)]
