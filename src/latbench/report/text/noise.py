"""What disturbs latencies on a machine, as text."""

from __future__ import annotations

from collections.abc import Iterator

from latbench.schema.noise import NoiseReport


def noise_lines(report: NoiseReport) -> Iterator[str]:
    """The smallest difference that can be found, then each cause with what to do about it."""
    seconds, least = f"{report.comparison_s:g} s", report.smallest_difference
    if least is None:
        yield "INCONCLUSIVE: too few measurements; give the probe more seconds"
    else:
        yield f"a comparison of {seconds} can find differences of {least:.1%} or more here"
        yield "  at best: what varies from process to process of a model comes on top"
    for each in report.causes:
        yield f"{each.cause}: {each.found}"
        yield f"  hint: {each.advice}"
    if not report.causes:
        yield f"nothing that disturbs latencies was found in {report.seconds:.0f} s"
