"""Exported files as lines."""

from __future__ import annotations

from latbench.report.text.layout import labeled
from latbench.report.units import size
from latbench.schema.artifact import Artifact, shape_text


def parity(artifact: Artifact) -> str:
    """How close the file's outputs are to the PyTorch model's."""
    found = artifact.parity
    if found is None:
        if why := artifact.details.get("not_executed"):
            return f"outputs not compared until the file is timed: {why}"
        return "outputs not compared" if artifact.model_counts else "a pre-exported file"
    near = [f"relative error {found.max_rel_error:.1g}"]
    if found.cosine is not None and artifact.precision != "fp32":
        near.append(f"cosine {found.cosine:.5f}")
    if found.top1_agreement_ppm is not None and artifact.precision != "fp32":
        near.append(f"top-1 agrees in {found.top1_agreement_ppm / 1e4:.0f}%")
    inputs = f" on {found.inputs} inputs" if found.inputs > 1 else ""
    return f"{', '.join(near)} against {found.reference}{inputs} (allowed {found.tolerance:.0e})"


def artifact_lines(artifact: Artifact, path: str) -> list[str]:
    """An exported file and the checks on it."""
    shapes = ", ".join(
        f"{tensor.name} {shape_text(tensor.shape)} {tensor.dtype}" for tensor in artifact.inputs
    )
    lines = [
        path,
        labeled("format", f"{artifact.format} {artifact.precision}, {size(artifact.size_bytes)}"),
        labeled("inputs", shapes),
        labeled("sha256", artifact.sha256),
        labeled("toolchain", ", ".join(f"{k} {v}" for k, v in artifact.toolchain.items())),
        labeled("details", ", ".join(f"{k} {v}" for k, v in artifact.details.items())),
    ]
    if (counts := artifact.counts) is not None:
        operators = ", ".join(f"{n} {name}" for name, n in counts.operators.items())
        lines.append(
            labeled(
                "counts", f"{counts.macs:,} MACs, {counts.parameters:,} parameters, {operators}"
            )
        )
    elif why := artifact.details.get("uncounted"):
        lines.append(labeled("counts", f"unknown: {why}"))
    lines.append(labeled("parity", parity(artifact)))
    return lines
