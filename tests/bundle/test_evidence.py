"""The verdicts that are in the repository follow from the records beside them."""

from __future__ import annotations

import pytest

from latbench.bundle.evidence import open_bundle
from support.environment import ROOT

DOCS = ROOT / "docs"


def test_the_page_says_what_the_records_say() -> None:
    path = DOCS / "verdicts.zip"
    if not path.exists():
        pytest.skip("not in a source distribution")
    # Opening computes every answer again, and raises where one is not the stored one.
    evidence = open_bundle(path.read_bytes()).evidence
    page = (DOCS / "VERDICTS.md").read_text()
    assert len(evidence.verdicts) >= 11
    for claim, verdict in evidence.pairs():
        for answer in verdict.ordering:
            rows = [row for row in page.splitlines() if row.startswith(f"| `{claim.id}` |")]
            said = f"| comparison | {answer.where} | {answer.answer} |"
            assert any(said in row for row in rows), (claim.id, said)
