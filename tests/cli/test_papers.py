"""``latbench papers`` and ``latbench plot pareto``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

from latbench.audit.library import load_claims
from latbench.audit.papers import Papers, load_papers
from latbench.claims.verdict import Answer, Verdict
from latbench.devices.catalog import load_devices
from latbench.errors import UsageError
from latbench.report.text.papers import (
    PaperRow,
    paper_rows,
    papers_markdown,
    papers_text,
)
from latbench.schema.codec import encode_record
from latbench.schema.yaml_document import parse
from latbench.zoo.catalog import ZOO
from support.command_line import Ended, Latbench
from support.environment import ROOT
from support.records import make_record, make_trace

DOCUMENT = ROOT / "docs/PAPERS.md"
REGISTERED = load_claims(load_devices(None))


def rows_with(answer: Answer) -> list[PaperRow]:
    """As if each claim had one answer, about its value."""
    return paper_rows(
        load_papers().papers,
        REGISTERED.claims,
        {model.id: model.build for model in REGISTERED.models.values()},
        {
            claim.id: Verdict(claim=claim.id, value=answer, ordering=(), static=None)
            for claim in REGISTERED.claims
        },
    )


def add_record(latbench: Latbench, tmp_path: Path, model: str, ms: float, **changes: str) -> None:
    traces = [make_trace(i, [round(ms * 1e6 * (1 + i / 1000))] * 60) for i in range(8)]
    id = f"{model.replace(':', '-')}-{'-'.join(changes.values())}"
    backend = changes.get("backend", "onnxruntime")
    made = make_record(id=id, model=model, device="bench", backend=backend, traces=traces)
    (tmp_path / f"{id}.json").write_bytes(encode_record(made))
    assert latbench("import", tmp_path / f"{id}.json").status == 0


def test_each_paper_stands_for_something_or_says_why_not() -> None:
    papers = load_papers().papers
    assert len(papers) == 54
    assert len({paper.id for paper in papers}) == 54
    links = [paper.link for paper in papers if paper.link is not None]
    assert len(set(links)) == len(links)
    for paper in papers:
        assert paper.scope == "in" or not paper.models, paper.id
        assert paper.models or paper.why, paper.id


def test_models_and_sources_of_papers_exist() -> None:
    shipped = load_papers()
    named = [name for paper in shipped.papers for name in paper.models]
    named += [top1.model for top1 in shipped.top1]
    own = {name for name in named if not name.startswith("timm:")}
    assert own <= {entry.name for entry in ZOO}
    for paper in shipped.papers:
        for source in paper.sources:
            REGISTERED.require_source(source)
            arxiv = REGISTERED.sources[source].arxiv
            assert arxiv == paper.arxiv, (paper.id, source)


def test_every_model_of_the_zoo_is_of_a_paper_or_a_comparison() -> None:
    of_papers = {name for paper in load_papers().papers for name in paper.models}
    others = {entry.name for entry in ZOO} - of_papers
    compared = ("mobilevigv2_", "flatten_swin_", "mobilenetv2_130", "pyramid_vig_b")
    assert all(name.startswith(compared) for name in others), others


def test_timm_models_of_papers_exist() -> None:
    found = find_spec("timm")
    if found is None or found.origin is None:
        pytest.skip("needs the `timm` extra")
    folder = Path(found.origin).parent
    text = "\n".join(path.read_text() for path in (folder / "models").glob("*.py"))
    for paper in load_papers().papers:
        for name in paper.models:
            if name.startswith("timm:"):
                function, _, weights = name.removeprefix("timm:").partition(".")
                assert f"def {function}(" in text, name
                assert f"'{function}.{weights}'" in text or not weights, name


def test_a_bad_file_is_told_with_its_line() -> None:
    text = files("latbench.data").joinpath("papers.yaml").read_text()
    with pytest.raises(UsageError, match=r"papers.yaml:\d+: papers\[0\].scop: unknown key"):
        parse(text.replace("scope: in", "scop: in", 1), "papers.yaml").convert(Papers)


def test_list_names_every_paper_and_summarises_what_needs_a_device() -> None:
    answer = Answer(answer="not testable here", needs=("the device iphone-13-mini", "another"))
    rows = rows_with(answer)
    text, document = papers_text(rows), "\n".join(papers_markdown(rows))
    assert len(text) == 56
    for paper in load_papers().papers:
        assert paper.title in document
    mobilevig = _line(document, "MobileViG: ")
    assert "10 value, 3 ordering" in mobilevig
    assert "value: 13 not testable here; no record of iphone-13-mini |" in mobilevig
    assert "**out of scope**: video and sound" in _line(document, "VATT")
    assert "claims no speed or size" in _line(document, "VOLO")
    confirmed = "\n".join(papers_markdown(rows_with(Answer(answer="confirmed"))))
    assert "value: 13 confirmed |" in _line(confirmed, "MobileViG: ")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(find_spec("timm") is None, reason="needs the `timm` extra")
def test_the_document_is_what_the_command_prints(latbench: Latbench, tmp_path: Path) -> None:
    written = tmp_path / "PAPERS.md"
    assert latbench("papers", "--format", "markdown", "--output", written).status == 0
    assert written.read_text() == DOCUMENT.read_text(), (
        "make it again: latbench papers --format markdown --output docs/PAPERS.md"
    )


def test_pareto_is_drawn_with_what_is_left_out(latbench: Latbench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the `plot` extra")
    for model, ms in (("timm:mobilenetv2_100", 6), ("mobilevig_ti", 2), ("mobilevig_s", 9)):
        add_record(latbench, tmp_path, model, ms)
    ended = latbench("plot", "pareto", tmp_path / "p.png")
    assert (ended.status, ended.out) == (0, f"2 models plotted\n{tmp_path / 'p.png'}\n")
    assert "left out: mobilevig_s: no published accuracy" in ended.err
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    ratios = latbench("plot", "pareto", "--ratios", tmp_path / "r.svg")
    assert ratios.status == 0
    assert ratios.out.startswith("Kendall's tau")
    assert latbench("plot", "pareto", tmp_path / "p.doc").status == 2
    told = latbench("plot", "pareto", tmp_path / "p.png", "--json").json
    assert [(p["measured"]["model"], p["top1"]) for p in told["points"]] == [
        ("mobilevig_ti", 75.7),
        ("timm:mobilenetv2_100", 71.8),
    ]
    told = latbench("plot", "pareto", "--ratios", tmp_path / "r.svg", "--json").json
    assert set(told) == {"file", "tau", "pairs"}


def test_pareto_says_what_is_missing(latbench: Latbench, tmp_path: Path) -> None:
    nothing = latbench("plot", "pareto", tmp_path / "p.png")
    assert nothing.status == 3
    assert "there is no registry" in nothing.err
    add_record(latbench, tmp_path, "mobilevig_s", 9)
    _refused(latbench("plot", "pareto", tmp_path / "p.png"), ["no published accuracy", "tinynet"])
    _refused(
        latbench("plot", "pareto", "--ratios", tmp_path / "p.png"),
        ["fewer than two models", "claims list"],
    )
    _refused(
        latbench("plot", "pareto", "--device", "phone", tmp_path / "p.png"),
        ["no measured records of phone", "latbench run"],
    )
    add_record(latbench, tmp_path, "timm:tinynet_e", 2, backend="openvino")
    _refused(latbench("plot", "pareto", tmp_path / "p.png"), ["of several", "--backend"])
    # What the fake backend times is nothing.
    add_record(latbench, tmp_path, "timm:tinynet_e", 2, backend="fake")
    _refused(
        latbench("plot", "pareto", "--backend", "fake", tmp_path / "p.png"), ["no measured records"]
    )
    assert not (tmp_path / "p.png").exists()


def _refused(ended: Ended, words: Sequence[str]) -> None:
    assert ended.status == 2, ended
    for word in words:
        assert word in ended.err, ended


def _line(text: str, part: str) -> str:
    return next(line for line in text.splitlines() if part in line)
