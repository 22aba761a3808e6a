"""Kernels of MIL operations that read an image at computed coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench_exporters.coreml.calls import Call, Kernel

if TYPE_CHECKING:
    import torch

PADDING = {"constant": "zeros", "border": "border", "reflection": "reflection"}
"""MIL's padding mode -> that of ``grid_sample``; ``symmetric`` is a reflection at the edges."""
REFLECTS_AT_CENTERS = {"reflection": True, "symmetric": False}
"""Whether the image is reflected at the centers of its outer pixels, as ``grid_sample`` does it
with aligned corners, or at their edges."""
NORMALIZED = "normalized_minus_one_to_one"


def sampling() -> dict[str, Kernel]:
    """Operation name -> kernel."""
    return {"resample": _resample, "affine": _affine}


def _resample(c: Call) -> torch.Tensor:
    return _sampled(c, c.tensor("coordinates").float())


def _affine(c: Call) -> torch.Tensor:
    from torch.nn import functional

    x, aligned = c.tensor("x"), bool(c.value("align_corners"))
    theta = c.tensor("transform_matrix").reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    if c.value("coordinates_mode") != NORMALIZED:
        raise NotImplementedError(f"coordinates_mode {c.value('coordinates_mode')}")
    size = [x.shape[0], x.shape[1], c.value("output_height"), c.value("output_width")]
    return _sampled(c, functional.affine_grid(theta, size, align_corners=aligned))


def _sampled(c: Call, coordinates: torch.Tensor) -> torch.Tensor:
    """``x`` (B, C, H, W) at ``coordinates`` (B, H2, W2, 2), each an x and a y."""
    from torch.nn import functional

    x, padding = c.tensor("x"), c.value("padding_mode")
    mode, aligned = c.value("coordinates_mode"), bool(c.value("align_corners"))
    reflects = REFLECTS_AT_CENTERS.get(padding, aligned)
    if mode != NORMALIZED or reflects != aligned:
        coordinates = _normalized(_pixels(coordinates, x, mode, aligned), x, reflects)
    # Outside, grid_sample has zeros, so that is where the padding is moved to.
    shift = float(c.value("padding_value", 0.0)) if padding == "constant" else 0.0
    found = functional.grid_sample(
        x - shift,
        coordinates,
        mode=c.value("sampling_mode"),
        padding_mode=PADDING.get(padding, "reflection"),
        align_corners=reflects,
    )
    return found + shift


def _sizes(x: torch.Tensor) -> torch.Tensor:
    """Width and height."""
    import torch

    return torch.tensor([x.shape[3], x.shape[2]], dtype=torch.float32)


def _pixels(coordinates: torch.Tensor, x: torch.Tensor, mode: str, aligned: bool) -> torch.Tensor:
    """Coordinates as pixels: 0 is the center of the first one."""
    if mode == "unnormalized":
        return coordinates
    share = (coordinates + 1) / 2 if mode == NORMALIZED else coordinates
    sizes = _sizes(x)
    return share * (sizes - 1) if aligned else share * sizes - 0.5


def _normalized(pixels: torch.Tensor, x: torch.Tensor, aligned: bool) -> torch.Tensor:
    """Pixels as coordinates from -1 to 1."""
    sizes = _sizes(x)
    share = pixels / (sizes - 1).clamp(min=1) if aligned else (pixels + 0.5) / sizes
    return share * 2 - 1
