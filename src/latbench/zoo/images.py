"""Read images as the inputs of vision models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import StageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    Array = np.ndarray[Any, np.dtype[Any]]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of the ImageNet channels (Russakovsky et al. 2015), as most vision models use."""


def read_image(path: Path, height: int, width: int, *, gray: bool = False) -> Array:
    """The image scaled to cover the size and center-cropped: HWC, ``uint8``.

    Raises :class:`UsageError` for a file that is not an image.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise StageError(
            "export",
            "reading images needs pillow, which is not installed",
            hint="pip install 'latbench[export]'",
            kind="unavailable",
        ) from error
    import numpy as np

    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(_rgb(image), (width, height), Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is not an image: {error}") from error
    return np.asarray(fitted.convert("L"))[..., None] if gray else np.asarray(fitted)


def normalized(pixels: Array) -> Array:
    """8-bit pixels as floats of mean 0 and deviation 1 over ImageNet, by channel if there are 3."""
    import numpy as np

    scaled: Array = pixels.astype(np.float32) / 255
    mean, deviation = np.array(MEAN, np.float32), np.array(DEVIATION, np.float32)
    if pixels.shape[-1] == 1:
        mean, deviation = mean.mean(keepdims=True), deviation.mean(keepdims=True)
    result: Array = (scaled - mean) / deviation
    return result


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image with 8 bits per channel. Pillow itself clips 16-bit values at 255."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith("I"):
        return image.convert("RGB")
    grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
