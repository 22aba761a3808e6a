"""Describe the inputs, outputs and states of a Core ML model from its specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latbench.api import StageError, TensorSpec, UsageError
from latbench_exporters.coreml.sizes import Sizes, array_sizes, image_sizes

DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
"""``ArrayFeatureType.ArrayDataType`` -> numpy name."""
CHANNELS = {"GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1, "RGB": 3, "BGR": 3}
"""Color space of an image -> number of channels."""
LABELS = ("stringType", "int64Type")
"""Types of the class label that a classifier predicts."""
MAIN = "main"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What goes into a model and what comes out."""

    function: str
    """The function of the program."""
    inputs: tuple[TensorSpec, ...]
    """An image is described as the network receives it: NCHW, float32. Shapes are the default ones
    of the file."""
    outputs: tuple[TensorSpec, ...]
    """The numeric ones. The shape is ``()`` if the file does not state it. An image is NCHW with
    values from 0 to 255. The probabilities of a classifier are a vector in the order of its sorted
    labels."""
    labels: tuple[str, ...]
    """Outputs that are class labels, which are not compared."""
    states: tuple[str, ...]
    images: Mapping[str, str]
    """Name of each image, input or output -> its color space."""
    sizes: Mapping[str, Sizes]
    """Name of each flexible input -> the shapes that it accepts."""

    def image_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are images."""
        return tuple(spec.name for spec in self.inputs if spec.name in self.images)


def interface(spec: Any) -> Interface:
    """Describe the function that a program runs if none is named.

    Raises :class:`StageError` for inputs and outputs that cannot be generated or compared.
    """
    described = _function(spec)
    labels = [f.name for f in described.output if f.type.WhichOneof("Type") in LABELS]
    outputs = [f for f in described.output if f.name not in labels]
    if not outputs:
        raise unsupported(
            "the model returns class labels only, which cannot be compared",
            hint="convert it again with the probabilities as an output",
        )
    features = (*described.input, *outputs)
    found = {feature.name: _sizes(feature) for feature in described.input}
    return Interface(
        function=described.name if spec.description.functions else MAIN,
        inputs=tuple(_tensor(feature, "input") for feature in described.input),
        outputs=tuple(_output(feature) for feature in outputs),
        labels=tuple(labels),
        states=tuple(feature.name for feature in described.state),
        images={
            feature.name: _color_space(feature)
            for feature in features
            if feature.type.WhichOneof("Type") == "imageType"
        },
        sizes={name: sizes for name, sizes in found.items() if sizes is not None},
    )


def select_function(spec: Any, wanted: str | None) -> dict[str, str]:
    """Make ``wanted`` the function that is run, in place; return details.

    Raises :class:`UsageError` if the file has no function of that name.
    """
    description = spec.description
    names = [function.name for function in description.functions]
    if not names:
        if wanted is not None:
            raise UsageError("the package has just one function", hint="omit --signature")
        return {}
    chosen = wanted or description.defaultFunctionName or names[0]
    if chosen not in names:
        raise UsageError(
            f"the package has no function {chosen!r}",
            hint=f"--signature NAME, one of: {', '.join(names)}",
        )
    # Core ML, coremltools and the interpreter run this one if no other is named.
    description.defaultFunctionName = chosen
    details = {"signature": chosen}
    if wanted is None and len(names) > 1:
        details["signatures"] = ", ".join(names)
    return details


def unsupported(message: str, *, hint: str) -> StageError:
    """The error for a sound model that is of a kind that cannot be timed."""
    return StageError("export", message, hint=hint, kind="unavailable")


def _function(spec: Any) -> Any:
    """The description of the function that is run: of the model, if it has just one."""
    description = spec.description
    if not description.functions:
        return description
    for function in description.functions:
        if function.name == description.defaultFunctionName:
            return function
    return description.functions[0]


def _sizes(feature: Any) -> Sizes | None:
    """The shapes that a flexible input accepts."""
    match feature.type.WhichOneof("Type"):
        case "multiArrayType":
            return array_sizes(feature.type.multiArrayType)
        case "imageType":
            return image_sizes(feature.type.imageType, CHANNELS[_color_space(feature)])
        case _:
            return None


def _output(feature: Any) -> TensorSpec:
    if feature.type.WhichOneof("Type") == "dictionaryType":
        return TensorSpec(name=feature.name, shape=(), dtype="float32")
    return _tensor(feature, "output")


def _tensor(feature: Any, what: str) -> TensorSpec:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        value = feature.type.imageType
        channels = CHANNELS[_color_space(feature)]
        return TensorSpec(
            name=feature.name, shape=(1, channels, value.height, value.width), dtype="float32"
        )
    if kind != "multiArrayType":
        raise unsupported(
            f"the {what} {feature.name!r} is a {kind or 'value of no type'}, not an array or image",
            hint="only numbers can be generated and compared: convert it again with arrays",
        )
    value = feature.type.multiArrayType
    if value.dataType not in DTYPES:
        raise unsupported(
            f"the {what} {feature.name!r} has an unknown element type",
            hint=f"supported: {', '.join(sorted(DTYPES.values()))}",
        )
    shape = tuple(value.shape)
    sizes = array_sizes(value) if what == "input" else None
    if sizes is not None and len(shape) != sizes.rank:
        shape = sizes.first()
    return TensorSpec(name=feature.name, shape=shape, dtype=DTYPES[value.dataType])


def _color_space(feature: Any) -> str:
    value = feature.type.imageType
    numbers = {value.ColorSpace.Value(name): name for name in CHANNELS}
    if value.colorSpace not in numbers:
        raise unsupported(
            f"the image {feature.name!r} has an unknown color space",
            hint=f"supported: {', '.join(sorted(CHANNELS))}",
        )
    return numbers[value.colorSpace]
