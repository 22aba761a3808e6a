"""Features between Python and Core ML: the conversions of ``CoreMLPythonUtils.mm``, and the checks of
a model's description, in the words that Core ML has for them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

ARRAYS = {
    65568: np.float32,
    65600: np.float64,
    65552: np.float16,
    131104: np.int32,
    131080: np.int8,
}
"""``ArrayFeatureType.ArrayDataType`` -> type of the array."""
SPACES = {10: ("L", "GRAYSCALE"), 20: ("RGB", "RGB"), 30: ("RGB", "BGR"), 40: ("F", "HALF")}
"""``ImageFeatureType.ColorSpace`` -> mode of the picture, and the order of its channels."""


def user_info(description: str, underlying: str | None = None) -> RuntimeError:
    """What ``Utils::handleError`` throws: the userInfo of an NSError, as NSDictionary prints it."""
    lines = [f'    NSLocalizedDescription = "{description}";']
    if underlying is not None:
        error = f'Error Domain=com.apple.CoreML Code=0 \\"{underlying}\\"'
        lines.append(f'    NSUnderlyingError = "{error}";')
    return RuntimeError("\n".join(["{", *lines, "}"]))


def to_feature(value: Any) -> Any:
    """A number, text or array as it is, or a picture. What nothing accepts is refused."""
    from PIL.Image import Image

    if isinstance(value, (int, np.integer, float, str, bytes)):
        return value
    if isinstance(value, np.ndarray) and _is_multi_array(value):
        return value
    if isinstance(value, Image):
        if value.mode not in ("RGB", "RGBA", "L", "F"):
            raise RuntimeError(
                f"Unsupported image type {value.mode}. Supported types are: RGB, RGBA, L."
            )
        return value
    # To standard output, as the bindings do.
    sys.stdout.write(f"Error: value type not convertible:\n{value}\n")
    raise RuntimeError("value type not convertible")


def _is_multi_array(array: np.ndarray) -> bool:
    """Whether ``PybindCompatibleArray`` takes it: its pointer is asked for to write to."""
    kinds = [("i", 4), ("f", 4), ("f", 8)]
    return bool(
        array.flags.writeable
        and array.ndim
        and (array.dtype.kind, array.dtype.itemsize) in kinds
        and array.dtype.isnative
    )


def to_network(feature: Any, description: Any) -> np.ndarray:
    """A feature as the array that the program takes: of a picture NCHW, from 0 to 255."""
    kind = description.type.WhichOneof("Type")
    if kind == "imageType":
        return _pixels(feature, description.name, description.type.imageType)
    if not isinstance(feature, np.ndarray):
        raise user_info(
            f"The model expects input feature {description.name} to be an array, but the input is "
            "of type 4."
        )
    value = description.type.multiArrayType
    if (problem := _shape_problem(feature.shape, value)) is not None:
        raise user_info(
            f"For input feature '{description.name}', the provided shape ({_times(feature.shape)}) "
            "is not compatible with the model's feature description.",
            problem,
        )
    return feature.astype(ARRAYS[value.dataType])


def from_network(array: np.ndarray, description: Any) -> Any:
    """An output as Python gets it: fp16 widened, a picture with an alpha channel."""
    from PIL import Image

    if description.type.WhichOneof("Type") != "imageType":
        given = array.astype(ARRAYS[description.type.multiArrayType.dataType])
        return given.astype(np.float32) if given.dtype == np.float16 else given
    mode, order = SPACES[description.type.imageType.colorSpace]
    if mode == "F":
        return Image.fromarray(array[0, 0].astype(np.float16).astype(np.float32))
    levels = np.clip(np.rint(array[0].astype(np.float32)), 0, 255).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[0])
    rgb = levels[::-1] if order == "BGR" else levels
    opaque = np.full((1, *rgb.shape[1:]), 255, np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.concatenate([rgb, opaque]).transpose(1, 2, 0)))


def _pixels(picture: Any, name: str, value: Any) -> np.ndarray:
    if not hasattr(picture, "getbands"):
        raise user_info(
            f"The model expects input feature {name} to be an image, but the input is of type 5."
        )
    mode, order = SPACES[value.colorSpace]
    if picture.mode.removesuffix("A") != mode:
        raise user_info(f"Image is not of the expected type for {name}.")
    if (size := (picture.height, picture.width)) not in _Sizes(value):
        raise user_info(f"Image size {size[1]} x {size[0]} not in allowed set of image sizes")
    if mode != "RGB":
        plain = np.asarray(picture)
        # A buffer of such pixels has fp16.
        return plain.astype(np.float16 if mode == "F" else np.float32).astype(np.float32)[
            None, None
        ]
    channels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    ordered = channels[::-1] if order == "BGR" else channels
    return np.ascontiguousarray(ordered[None]).astype(np.float32)


class _Sizes:
    """Height and width that an image may have."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __contains__(self, size: tuple[int, int]) -> bool:
        value = self._value
        match value.WhichOneof("SizeFlexibility"):
            case "enumeratedSizes":
                return size in [(each.height, each.width) for each in value.enumeratedSizes.sizes]
            case "imageSizeRange":
                both = value.imageSizeRange
                return _within(size[0], both.heightRange) and _within(size[1], both.widthRange)
            case _:
                return size == (value.height, value.width)


def _shape_problem(shape: tuple[int, ...], value: Any) -> str | None:
    match value.WhichOneof("ShapeFlexibility"):
        case "enumeratedShapes":
            listed = [tuple(each.shape) for each in value.enumeratedShapes.shapes]
            if shape not in listed:
                return f"MultiArray shape ({_times(shape)}) was not in enumerated set of allowed shapes"
        case "shapeRange":
            ranges = value.shapeRange.sizeRanges
            if len(ranges) != len(shape):
                return f"MultiArray rank {len(shape)} is not {len(ranges)}"
            for axis, (size, limits) in enumerate(zip(shape, ranges, strict=True)):
                if not _within(size, limits):
                    return (
                        f"Size ({size}) of dimension ({axis}) is not in allowed range "
                        f"({limits.lowerBound}..{limits.upperBound})"
                    )
        case _:
            if shape != tuple(value.shape):
                return (
                    f"MultiArray shape ({_times(shape)}) does not match the shape "
                    f"({_times(value.shape)}) specified in the model description"
                )
    return None


def _within(size: int, limits: Any) -> bool:
    return size >= limits.lowerBound and (limits.upperBound < 0 or size <= limits.upperBound)


def _times(shape: Any) -> str:
    return " x ".join(map(str, shape))
