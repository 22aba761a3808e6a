"""Convert between arrays and what Core ML takes and returns: images and dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.api import Array, Artifact, StageError, TensorSpec


def color_spaces(details: Mapping[str, str]) -> dict[str, str]:
    """Name of each image, input or output, whose color space differs from RGB -> that space."""
    parts = details.get("color_spaces", "").split(", ")
    return {name: space for name, _, space in (part.rpartition(" ") for part in parts) if name}


def image_inputs(artifact: Artifact) -> dict[str, str]:
    """Name of each image input -> its color space."""
    names = artifact.details.get("images", "").split(",")
    spaces = color_spaces(artifact.details)
    return {
        spec.name: spaces.get(spec.name, "RGB") for spec in artifact.inputs if spec.name in names
    }


def fed_inputs(artifact: Artifact, inputs: Sequence[Array]) -> dict[str, object]:
    """Inputs by name: arrays, or images where the model takes images.

    Raises :class:`StageError` if pillow is missing.
    """
    import numpy as np

    images = image_inputs(artifact)
    return {
        spec.name: _picture(array, artifact.details, images[spec.name])
        if spec.name in images
        # The bindings refuse an array that is read-only.
        else np.require(array, requirements=("C", "W"))
        for spec, array in zip(artifact.inputs, inputs, strict=True)
    }


def from_feature(value: Any, spec: TensorSpec, space: str) -> Array:
    """An output as an array: of an image its pixels, NCHW, and of a dictionary the values in the
    order of the sorted keys."""
    import numpy as np

    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    elif hasattr(value, "getbands"):
        return _pixels(value, space)
    # fp16 outputs may come back widened, and one-element outputs without their axes.
    return np.asarray(value).astype(spec.dtype).reshape(spec.shape)


def _picture(array: Array, details: Mapping[str, str], space: str) -> object:
    """The image that the model maps to ``array`` (1, C, H, W): approximately, since its pixels
    have 8 bits, except in GRAYSCALE_FLOAT16."""
    import numpy as np

    try:
        from PIL import Image
    except ImportError as error:
        raise StageError(
            "open",
            "image inputs require pillow, which is not installed",
            hint="pip install pillow",
            kind="unavailable",
        ) from error
    scale = float(details["image_scale"])
    bias = [float(part) for part in details["image_bias"].split(",")][: array.shape[1]]
    values = (array[0].astype(np.float64) - np.reshape(bias, (-1, 1, 1))) / scale
    if space == "GRAYSCALE_FLOAT16":
        return Image.fromarray(values[0].astype(np.float32))
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if len(pixels) == 1:
        return Image.fromarray(pixels[0])
    # A PIL image is RGB; Core ML swaps its channels for a network that takes BGR.
    ordered = pixels[::-1] if space == "BGR" else pixels
    return Image.fromarray(np.ascontiguousarray(ordered.transpose(1, 2, 0)))


def _pixels(image: Any, space: str) -> Array:
    import numpy as np

    if len(image.getbands()) == 1:
        return np.asarray(image)[None, None]
    # Core ML returns an alpha channel too.
    channels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return np.ascontiguousarray(channels[::-1] if space == "BGR" else channels)[None]
