"""``latbench doctor --noise``."""

from __future__ import annotations

from support.command_line import Latbench


def test_the_command_answers_first(latbench: Latbench) -> None:
    told = latbench("doctor", "--noise", "0.2")
    assert told.status == 0
    assert told.out.splitlines()[0].startswith(("a comparison of 30 s can find", "INCONCLUSIVE"))
    report = latbench("doctor", "--noise", "0.2", "--json").json
    assert set(report) == {
        *("seconds", "smallest_difference", "comparison_s", "causes", "settings")
    }
    for wrong in ("0", "nan", "inf", "1e9"):
        refused = latbench("doctor", f"--noise={wrong}")
        assert refused.status == 2
        assert "--noise takes a number of seconds" in refused.err
