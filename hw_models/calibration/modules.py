"""Modules of a report as records of their own: one layer each, so that laws are fitted layer by layer.

A csynth report lists what every instance of the top function takes.  hls4ml names an instance after its
kernel and the number of its layer ("conv_2d_cl_array_array_ap_fixed_16u_config7_s"), in order of the
network; the layers of a kind are matched by that order, and by the channels where the name gives them.
A kernel that is not hls4ml's own ("conv_2d_cl_me_...") matches nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from hw_models.records import LayerRecord, Record, StageReport

_KERNEL = re.compile(
    r"^(?P<kernel>dense_latency|dense_resource|dense|conv_[12]d_cl|pointwise_conv_[12]d_cl|"
    r"depthwise_conv_[12]d_cl|pooling[12]d_cl|global_pooling[12]d_cl|relu|leaky_relu|sigmoid|tanh|"
    r"softmax_stable|softmax_latency|softmax|normalize|zeropad[12]d_cl)"
    r"_(?P<rest>(?:array|ap_).*?config(?P<number>\d+)(?:_|$).*)$"
)
#: Channels of the last type in a name, which is what the module writes.
_CHANNELS = re.compile(r".*(?:^|_)(\d+)u_(?:\w*_)?config\d+")
_ACTIVATIONS = {
    "relu": ("relu",), "leaky_relu": ("leaky_relu", "leakyrelu"), "sigmoid": ("sigmoid",), "tanh": ("tanh",),
    "softmax": ("softmax",), "softmax_stable": ("softmax",), "softmax_latency": ("softmax",),
}  # fmt: skip


def _kind_of_module(kernel: str) -> str:
    if kernel in _ACTIVATIONS:
        return _ACTIVATIONS[kernel][0]
    if kernel.startswith("dense"):
        return "dense"
    return re.sub(r"_?[12]d_cl$", "", kernel)


def _kind_of_layer(layer: LayerRecord) -> str | None:
    """Return the kind of module that realises a layer; None for layers without one."""
    kind = layer.type.lower()
    if kind == "dense":
        return "dense"
    if kind.startswith(("conv1d", "conv2d")):
        return "conv"
    if kind.startswith(("pointwiseconv", "depthwiseconv")):
        return kind[: kind.index("conv")] + "_conv"
    if "pooling" in kind:
        return "global_pooling" if kind.startswith("global") else "pooling"
    if kind == "batchnormalization":
        return "normalize"
    if kind.startswith("zeropad"):
        return "zeropad"
    function = (layer.activation or kind).lower()
    for names in _ACTIVATIONS.values():
        if function in names:
            return names[0]
    return None


def module_records(record: Record) -> list[Record]:
    """Return one record per module that realises a known layer of `record`.

    Each is the record itself with the module's figures as its csynth report and `layer_index` set: an
    estimate of it covers that layer alone, within its network.  A kind of layer whose modules cannot
    be matched one to one (equal layers share a module, names were cut) gives none.
    """
    numbered: dict[str, list[tuple[int, StageReport]]] = {}
    for module in record.modules:
        match = _KERNEL.match(module.module)
        if match is not None:
            kind = _kind_of_module(match["kernel"])
            numbered.setdefault(kind, []).append((int(match["number"]), module))
    result = []
    for kind, found in numbered.items():
        found.sort(key=lambda item: item[0])
        places = [i for i, x in enumerate(record.layers) if _kind_of_layer(x) == kind]
        if len(places) != len(found) or len({number for number, _ in found}) != len(found):
            continue
        if any(not _fits(record.layers[i], x) for i, (_, x) in zip(places, found, strict=True)):
            continue
        for i, (_, module) in zip(places, found, strict=True):
            result.append(
                replace(
                    record,
                    id=f"{record.id}#{module.module}",
                    reports={"csynth": module},
                    modules=(),
                    layer_index=i,
                )
            )
    return result


def _fits(layer: LayerRecord, module: StageReport) -> bool:
    """Say whether the channels in a stream module's name are those of the layer's output."""
    channels = _CHANNELS.search(module.module)
    shape = layer.out_shape or ((layer.units,) if layer.units else ())
    return channels is None or not shape or _channels_agree(shape, int(channels[1]))


def _channels_agree(shape: Sequence[int], channels: int) -> bool:
    flat = len(shape) == 1 and shape[0] % channels == 0
    return shape[-1] == channels or flat
