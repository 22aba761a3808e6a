"""papers.yaml: the papers that this toolkit covers, and published accuracies."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from latbench.schema.value import Value
from latbench.schema.yaml_document import parse


class Paper(Value, frozen=True, kw_only=True):
    """One paper, and the models and claims that represent it, or why there are none."""

    id: str
    title: str
    scope: Literal["in", "out"]
    year: int | None = None
    arxiv: str | None = None
    """``None`` if it is not known which publication is meant."""
    models: tuple[str, ...] = ()
    """Names that ``latbench run`` accepts."""
    sources: tuple[str, ...] = ()
    """Ids of sources in claims.yaml whose claims are the paper's own."""
    why: str | None = None
    """Why it is out of scope or has no model, or what its models represent."""

    @property
    def link(self) -> str | None:
        """URL of the paper."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv is not None else None


class Top1(Value, frozen=True, kw_only=True):
    """A published accuracy on ImageNet-1k, in percent, as it is printed."""

    model: str
    figure: str
    source: str


class Papers(Value, frozen=True, kw_only=True):
    """The content of the file."""

    schema: Literal[1]
    papers: tuple[Paper, ...]
    top1: tuple[Top1, ...]


def load_papers() -> Papers:
    """Read the shipped file."""
    content = files("latbench.data").joinpath("papers.yaml").read_bytes()
    return parse(content, "papers.yaml").convert(Papers)
