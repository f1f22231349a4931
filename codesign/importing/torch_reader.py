"""PyTorch modules, read by the ONNX graph that PyTorch writes of them; Brevitas and PQuantML with their quantizers.

Brevitas writes QONNX itself.  PQuantML's own exporter has one width per tensor, so its quantizers are traced
here as one node each (`FixedPoint`) with sign, width and integer bits of every element, as its HGQ has them.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError, DesignError
from codesign.export.backends.base import quiet_hls4ml
from codesign.importing.onnx_reader import check_onnx, read_onnx, rounds_itself
from codesign.ir import FixedPoint
from codesign.layers._import import Draft, Value
from codesign.tools import require_module

Floats = NDArray[np.float64]
Reference = Callable[[Floats], Floats]


def read_torch(
    module: Any, precision: str | None, shapes: Sequence[tuple[int, ...]]
) -> tuple[Draft, Value, Reference]:
    """Read a module by its ONNX graph, which PyTorch itself writes: whatever is traced is read node by node."""
    import torch

    module = module.eval()
    model = _torch_graph(module, shapes)
    fmt = None if precision is None else FixedPoint.from_hls(precision)
    if fmt is None and not rounds_itself(model):
        raise DesignError(
            "the PyTorch module holds floats; state a precision (ap_fixed<16,6>), or train it quantized (Brevitas)"
        )
    draft, output = read_onnx(model, fmt)

    def reference(inputs: Floats) -> Floats:
        parts = divided(np.asarray(inputs, dtype=np.float32), shapes)
        with torch.no_grad():
            found = module(*map(torch.as_tensor, parts))
        outputs = found if type(found) in (tuple, list) else [found]
        # Brevitas returns tensors with their scales
        return joined([getattr(output, "value", output).numpy() for output in outputs], len(inputs))

    return draft, output, reference


def _torch_graph(module: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Write a module as ONNX, or QONNX where it holds Brevitas' quantizers.

    Raises:
        DesignError: PyTorch cannot write it.
        ToolError: Brevitas' exporter misses a package.
    """
    import onnx
    import torch

    example = tuple(torch.zeros((1, *shape)) for shape in shapes)
    names = ["x"] if len(shapes) == 1 else [f"x{i}" for i in range(len(shapes))]
    packages = {type(part).__module__.partition(".")[0] for part in module.modules()}
    try:
        with (
            warnings.catch_warnings(),
            quiet_hls4ml(),
            tempfile.TemporaryDirectory(prefix="codesign-") as folder,
        ):
            path = Path(folder) / "module.onnx"
            warnings.simplefilter("ignore")  # its exporter warns of itself
            if "brevitas" in packages:
                require_module("onnxscript")
                require_module("onnxoptimizer")
                export = require_module("brevitas.export").export_qonnx
                export(module, args=example, export_path=str(path))
            else:
                with _traced_quantizers(module):
                    torch.onnx.export(
                        module,
                        example,
                        str(path),
                        dynamo=False,  # the newer one needs onnxscript and takes ten times as long
                        opset_version=17,
                        input_names=names,
                        dynamic_axes={name: {0: "n"} for name in names},
                    )
            model = onnx.load(str(path))
    except CodesignError:
        raise
    except Exception as error:  # whatever tracing somebody's module raises
        raise DesignError(
            f"PyTorch cannot write the module as ONNX ({' '.join(str(error).split())[:300]}); make its forward traceable"
        ) from error
    check_onnx(model, type(module).__name__)
    return model


def divided(
    inputs: NDArray[np.float32], shapes: Sequence[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """Return the inputs of a network that has several: ours is one vector of them."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    flat = np.split(inputs.reshape(len(inputs), -1), ends, axis=1)
    return [part.reshape(len(inputs), *shape) for part, shape in zip(flat, shapes, strict=True)]


def joined(outputs: Any, n: int) -> Floats:
    """Return one or several outputs as float64[n, n_outputs]."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    flat = [np.asarray(output, dtype=np.float64).reshape(n, -1) for output in several]
    return np.concatenate(flat, axis=1)


@contextlib.contextmanager
def _traced_quantizers(module: Any) -> Iterator[None]:
    """Let PQuantML's quantizers be one node each while a module is traced."""
    import torch

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, k: Any, bits: Any, integer: Any, mode: str, over: str) -> Any:
            return x.clone()

        @staticmethod
        def symbolic(g: Any, x: Any, k: Any, bits: Any, integer: Any, mode: str, over: str) -> Any:
            rounded = g.op(
                "codesign::FixedPoint", x, k, bits, integer, rounding_s=mode, overflow_s=over
            )
            rounded.setType(x.type())
            return rounded

    quantizers = [
        part
        for part in module.modules()
        if type(part).__module__.startswith("pquant") and type(part).__name__ == "Quantizer"
    ]

    def forward_of(part: Any) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            k, i, f = (torch.as_tensor(n).detach().float() for n in part.get_quantization_bits())
            k, i, f = torch.round(k), torch.round(i), torch.round(f)
            if part.is_data and k.dim() == x.dim():
                k, i, f = k[0], i[0], f[0]  # the batch
            # its weights are rounded, never wrapped: they are within the range that it found for them
            over = (
                "NONE"
                if part.use_hgq and part.overflow == "WRAP" and not part.is_data
                else part.overflow
            )
            return Rounded.apply(x, k, k + i + f, k + i, str(part.round_mode), str(over))  # type: ignore[no-untyped-call]

        return forward

    try:
        for part in quantizers:
            part.forward = forward_of(part)
        yield
    finally:
        for part in quantizers:
            del part.forward
