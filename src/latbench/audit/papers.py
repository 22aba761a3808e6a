"""papers.yaml: the papers that this toolkit answers for, and accuracies that were published."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from latbench.schema.value import Value
from latbench.schema.yaml_document import parse


class Paper(Value, frozen=True, kw_only=True):
    """One paper: what here stands for it, or why nothing does."""

    id: str
    title: str
    scope: Literal["in", "out"]
    year: int | None = None
    arxiv: str | None = None
    """``None``: not known which publication it is."""
    models: tuple[str, ...] = ()
    """Names that ``latbench run --model`` takes."""
    sources: tuple[str, ...] = ()
    """Of claims.yaml: their claims are the paper's own."""
    why: str | None = None
    """It is out of scope, has no model, or what its models stand for."""

    @property
    def link(self) -> str | None:
        """Where to read it."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv is not None else None


class Top1(Value, frozen=True, kw_only=True):
    """A published accuracy on ImageNet-1k, in percent, as it is printed."""

    model: str
    figure: str
    source: str


class Papers(Value, frozen=True, kw_only=True):
    """All of the file."""

    schema: Literal[1]
    papers: tuple[Paper, ...]
    top1: tuple[Top1, ...]


def load_papers() -> Papers:
    """The shipped file."""
    content = files("latbench.data").joinpath("papers.yaml").read_bytes()
    return parse(content, "papers.yaml").convert(Papers)
