"""The zoo's models: names, inputs and exact counts."""

from __future__ import annotations

from pathlib import Path

from latbench.errors import UsageError, suggest
from latbench.file_names import restored_name
from latbench.schema.value import Value
from latbench.zoo import timm


class ZooModel(Value, frozen=True, kw_only=True):
    """``parameters`` as trained, all heads included; ``macs`` of convolutions and linear layers for
    one image of ``input_shape`` (channels, height, width)."""

    name: str
    factory: str
    """``module:function``, called without arguments."""
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    paper: str


def _models(
    module: str, paper: str, counts: dict[str, tuple[int, int]], *, side: int = 224
) -> tuple[ZooModel, ...]:
    """A family: ``counts`` has parameters and MACs by name, which is the factory's name too."""
    return tuple(
        ZooModel(
            name=name,
            factory=f"latbench.zoo.nets.{module}:{name}",
            input_shape=(3, side, side),
            parameters=parameters,
            macs=macs,
            paper=paper,
        )
        for name, (parameters, macs) in counts.items()
    )


FBNET = (
    "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search, "
    "arXiv 1812.03443"
)

ZOO = (
    *_models(
        "mobilevig",
        "MobileViG: Graph-Based Sparse Attention for Mobile Vision Applications, arXiv 2307.00395",
        {
            "mobilevig_ti": (5_271_074, 662_142_336),
            "mobilevig_s": (7_276_538, 983_688_960),
            "mobilevig_m": (14_075_786, 1_493_425_152),
            "mobilevig_b": (26_868_506, 2_792_944_896),
        },
    ),
    *_models(
        "mobilevigv2",
        "Scaling Graph Convolutions for Mobile Vision, arXiv 2406.05850",
        {
            "mobilevigv2_ti": (5_695_824, 629_634_560),
            "mobilevigv2_s": (7_767_632, 912_263_424),
            "mobilevigv2_m": (15_471_504, 1_619_490_688),
            "mobilevigv2_b": (27_878_864, 3_558_228_480),
        },
    ),
    *_models(
        "greedyvig",
        "GreedyViG: Dynamic Axial Graph Construction for Efficient Vision GNNs, arXiv 2405.06849",
        {
            "greedyvig_s": (11_983_376, 1_580_681_472),
            "greedyvig_m": (21_928_112, 3_114_168_768),
            "greedyvig_b": (30_905_296, 5_059_845_632),
        },
    ),
    *_models(
        "pyramid_vig",
        "Vision GNN: An Image is Worth Graph of Nodes, arXiv 2206.00272",
        {"pyramid_vig_b": (92_980_328, 16_208_519_168)},
    ),
    *_models(
        "efficientmod",
        "Efficient Modulation for Vision Networks, arXiv 2403.19963",
        {
            "efficientmod_xxs": (4_736_264, 556_983_808),
            "efficientmod_xs": (6_627_544, 709_942_848),
            "efficientmod_s": (12_897_184, 1_317_474_336),
            "efficientmod_s_conv": (12_872_336, 1_470_798_720),
        },
    ),
    *_models(
        "mobilenetv2",
        "MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381",
        {"mobilenetv2_130": (5_386_792, 509_374_560)},
    ),
    *_models(
        "proxylessnas",
        "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware, "
        "arXiv 1812.00332",
        {
            "proxylessnas_mobile": (4_080_512, 320_427_584),
            "proxylessnas_mobile14": (6_857_568, 580_883_408),
            "proxylessnas_gpu": (7_119_848, 465_260_160),
            "proxylessnas_cpu": (4_361_648, 439_243_864),
        },
    ),
    *_models(
        "fbnet",
        FBNET,
        {
            "fbnet_a": (4_321_232, 244_452_664),
            "fbnet_b": (4_818_216, 291_004_424),
            "fbnet_c": (5_592_784, 378_136_224),
        },
    ),
    *_models("fbnet", FBNET, {"fbnet_96": (1_846_728, 12_796_752)}, side=96),
    *_models(
        "nasnet",
        "Learning Transferable Architectures for Scalable Image Recognition, arXiv 1707.07012",
        {"nasnet_a_mobile": (5_289_978, 563_638_816)},
    ),
    *_models(
        "linear_swin",
        "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive "
        "Re-parameterized Batch Normalization, arXiv 2405.11582",
        {
            "slab_swin_t": (29_216_605, 4_373_004_288),
            "slab_swin_s": (50_552_965, 8_534_802_432),
        },
    ),
    *_models(
        "linear_swin",
        "FLatten Transformer: Vision Transformer using Focused Linear Attention, arXiv 2308.00442",
        {
            "flatten_swin_t": (29_192_384, 4_373_004_288),
            "flatten_swin_s": (50_510_288, 8_534_802_432),
        },
    ),
    *_models(
        "cswin",
        "CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows, "
        "arXiv 2107.00652",
        {
            "cswin_t": (22_320_552, 4_070_262_272),
            "cswin_s": (34_643_304, 6_391_178_240),
            "cswin_b": (77_382_184, 14_341_043_712),
        },
    ),
    *_models(
        "inception_transformer",
        "Inception Transformer, arXiv 2205.12956",
        {
            "inception_transformer_s": (19_866_344, 4_501_136_704),
            "inception_transformer_b": (47_866_216, 8_816_729_984),
            "inception_transformer_l": (86_637_096, 13_292_387_840),
        },
    ),
    *_models(
        "l2vit",
        "The Linear Attention Resurrection in Vision Transformer, arXiv 2501.16182",
        {
            "l2vit_t": (28_596_781, 4_571_663_616),
            "l2vit_s": (50_199_157, 8_789_909_760),
            "l2vit_b": (88_577_188, 15_554_128_896),
        },
    ),
    *_models(
        "resformer",
        "ResFormer: Scaling ViTs with Multi-Resolution Training, arXiv 2212.00776",
        {
            "resformer_t": (5_689_192, 1_079_254_272),
            "resformer_s": (21_986_536, 4_250_024_448),
            "resformer_b": (86_431_720, 16_866_112_512),
        },
    ),
    *_models(
        "spectformer",
        "SpectFormer: Frequency and Attention is what you need in a Vision Transformer, "
        "arXiv 2304.06446",
        {
            "spectformer_s": (22_226_928, 3_911_704_832),
            "spectformer_b": (33_052_880, 6_308_472_832),
            "spectformer_l": (54_675_792, 12_665_972_736),
        },
    ),
    *_models(
        "strip_mlp",
        "Strip-MLP: Efficient Token Interaction for Vision MLP, arXiv 2307.11458",
        {
            "strip_mlp_light_t": (18_243_920, 2_518_593_280),
            "strip_mlp_t": (24_903_920, 3_648_236_800),
            "strip_mlp_s": (42_568_600, 6_803_134_464),
            "strip_mlp_b": (57_216_480, 9_184_947_968),
        },
    ),
    *_models(
        "overlock",
        "OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic "
        "Kernels, arXiv 2502.20087",
        {"overlock_t": (34_990_472, 5_916_393_280)},
    ),
    *_models(
        "spiking",
        "One Timestep is All You Need: Training Spiking Neural Networks with Ultra Low Latency, "
        "arXiv 2110.05929",
        {
            "spiking_vgg16_t1": (138_344_143, 15_470_264_320),
            "spiking_vgg16_t2": (138_344_143, 30_853_824_512),
            "spiking_vgg16_t3": (138_344_143, 46_237_384_704),
            "spiking_vgg16_t4": (138_344_143, 61_620_944_896),
            "spiking_vgg16_t5": (138_344_143, 77_004_505_088),
        },
    ),
)


CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")
"""Extensions of files that hold the weights of a network and not the network."""


def find(name: str) -> ZooModel:
    """The entry called ``name``. Raises :class:`UsageError` with the nearest names."""
    known = {entry.name: entry for entry in ZOO}
    if name.endswith(CHECKPOINTS):
        raise UsageError(
            f"{name} holds weights, not a network",
            hint=f"name the network, and the file with --weights {name}",
        )
    if name not in known:
        if _is_file(restored_name(name)):
            raise UsageError(
                f"the format of the file {restored_name(name)} is unknown: it has no extension",
                hint="give it the extension of its format, such as .onnx or .tflite",
            )
        offered = f"did you mean timm:{name}?" if timm.has(name) else suggest(name, known)
        others = "timm:NAME, package.module:factory, path/to/file.py:factory or an existing file"
        raise UsageError(
            f"unknown model {restored_name(name)!r}",
            hint=f"{offered or '`latbench models` lists the known names'} (also: {others})",
        )
    return known[name]


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name that is too long for a file
        return False
