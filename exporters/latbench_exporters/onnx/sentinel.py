"""The ONNX sentinel: a fixed graph with the same bytes on every machine and version.

It has the architecture of MobileNetV2 (Sandler et al. 2018, CVPR, table 2): 300 million MACs and
14 MB of weights, since a sentinel must react to the same disturbances as the models it alternates
with. A sentinel of three small blocks that fit in a core's cache varied half as much as a
MobileNetV2 under changing load, and the ratio to it varied as much as the latency itself.

Any change here is another workload and requires another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latbench.api import TensorSpec, make_inputs

if TYPE_CHECKING:
    import onnx

SENTINEL = "inverted-residuals-224@1"
SIDE, STEM, HEAD, CLASSES = 224, 32, 1280, 1000
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repeats, stride of the first block."""
OPSET, IR = 20, 10


def build_sentinel() -> onnx.ModelProto:
    """The graph: input 1x3x224x224, output 1x1000, BatchNorm folded, ReLU activations."""
    from onnx import TensorProto, helper

    draw = _Drawing()
    draw.conv("image", 3, STEM, 3, stride=2)
    channels = STEM
    for expansion, width, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride, before, inner = (
                (first_stride if repeat == 0 else 1),
                draw.last,
                channels * expansion,
            )
            if expansion > 1:
                draw.conv(draw.last, channels, inner, 1)
            draw.conv(draw.last, inner, inner, 3, stride=stride, groups=inner)
            draw.conv(draw.last, inner, width, 1, relu=False)
            if stride == 1 and channels == width:
                draw.node("Add", [before, draw.last])
            channels = width
    draw.conv(draw.last, channels, HEAD, 1)
    draw.node("GlobalAveragePool", [draw.last])
    draw.conv(draw.last, HEAD, CLASSES, 1, relu=False)
    draw.node("Flatten", [draw.last])
    graph = helper.make_graph(
        draw.nodes,
        "sentinel",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(draw.last, TensorProto.FLOAT, [1, CLASSES])],
        draw.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    model.producer_name, model.producer_version = "latbench", ""
    return model


class _Drawing:
    """Nodes and weights so far; ``last`` is the name of the latest output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = ""

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        self.last = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, inputs, [self.last], name=self.last, **attributes)
        )

    def conv(
        self,
        source: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        from onnx import numpy_helper

        shape = (outputs, inputs // groups, kernel, kernel)
        name = f"weight{len(self.weights)}"
        (values,) = make_inputs(
            (TensorSpec(name=name, shape=shape, dtype="float32"),), seed=len(self.weights)
        )
        # Variance 2 / fan-in (1 without ReLU) keeps the scale of activations through all layers.
        fan_in = shape[1] * kernel * kernel
        scaled = values * ((2.0 if relu else 1.0) / fan_in) ** 0.5
        self.weights.append(numpy_helper.from_array(scaled, name))
        self.node(
            "Conv",
            [source, name],
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
            group=groups,
        )
        if relu:
            self.node("Relu", [self.last])
