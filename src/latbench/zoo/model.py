"""A model known by its identity, without the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from latbench.errors import choice_option
from latbench.schema.artifact import ModelIdentity
from latbench.zoo import catalog
from latbench.zoo.given_inputs import GivenInputs

if TYPE_CHECKING:
    from torch import nn

Source = Literal["zoo", "timm", "user", "file"]
Form = Literal["deploy", "trained"]
"""With branches fused and BatchNorm folded, or as the authors train it."""

FORMS: dict[str, Form] = {form: form for form in get_args(Form)}


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """Everything that is needed to build a network; :mod:`latbench.zoo.builder` builds it."""

    identity: ModelIdentity
    weights: Path | None
    seed: int
    weights_key: str | None = None
    """Keys of the dictionary of weights in the file; ``None``: found by names."""
    entry: catalog.ZooModel | None = None
    """Set for a model of the zoo."""
    path: Path | None = None
    """Set for a pre-exported file, which is not built."""
    source: Path | None = None
    """Set for a user's own model: the file with the factory."""
    factory: str | None = None
    by_path: bool = False
    """Whether the user named that file, and not a module."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments of the factory, as texts."""
    imports: tuple[str, ...] = ()
    """Packages to import before the factory is called."""
    search: tuple[str, ...] = ()
    """Import path of a user's own model."""
    module: nn.Module | None = None
    """Set for a network that exists in this process only."""
    form: Form = "deploy"
    given: GivenInputs = field(default_factory=GivenInputs)
    """Inputs that the request gives."""

    @property
    def file_extension(self) -> str | None:
        """Extension of the pre-exported file; ``None`` for a model that is built."""
        return None if self.path is None else self.path.suffix.lower()


def read_form(text: str) -> Form:
    """The form of that name. Raises :class:`UsageError`."""
    return FORMS[choice_option("form", text, FORMS)]
