"""A resolved model as the exporters see it: its network is built on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.schema.artifact import Counts, ModelIdentity, TensorSpec
from latbench.zoo.builder import BuiltModel, build
from latbench.zoo.model import ResolvedModel

if TYPE_CHECKING:
    from torch import nn

    from latbench.api import Array
    from latbench.zoo.given_inputs import FilledInputs


@dataclass(frozen=True, kw_only=True)
class LazyModel:
    """Implements :class:`latbench.api.Model`.

    Building takes seconds, so an exporter that refuses an option does so before.
    """

    resolved: ResolvedModel

    @property
    def identity(self) -> ModelIdentity:
        """The identity that was resolved."""
        return self.resolved.identity

    def module(self) -> nn.Module:
        """The network in its form, in eval mode. Raises :class:`StageError`."""
        return self._built.module

    def inputs(self) -> tuple[TensorSpec, ...]:
        """One image tensor, NCHW, float32, unless the request or the network names others."""
        return self._built.inputs.specs

    def example_inputs(self) -> tuple[Array, ...]:
        """The inputs that the network was built and tried with."""
        return self._built.inputs.arrays(self.resolved.seed)

    def filled_inputs(self) -> FilledInputs:
        """The inputs with their contents."""
        return self._built.inputs

    def counts(self) -> Counts:
        """Counts of the network in its form, at the input's shape."""
        return self._built.counts

    def trained_parameters(self) -> int:
        """Parameters before fusion and folding, all heads included."""
        return self._built.trained_parameters

    def notes(self) -> Mapping[str, str]:
        """What is unusual about the network, its weights or its form."""
        return self._built.notes

    def files_read(self, project: Path) -> tuple[str, ...]:
        """Files that a user's own model read: see :meth:`FileReads.of_project`."""
        return self._built.reads.of_project(project)

    @cached_property
    def _built(self) -> BuiltModel:
        return build(self.resolved)
