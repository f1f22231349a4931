"""Networks trained elsewhere, read into the form that training here gives, and proved against their framework.

Why two readers: ONNX files say every rounding themselves, so `onnx_reader` reads their nodes as the
standard defines them; hls4ml's ONNX front end would round precisions of its own, refuse plain `Gemm` and
read off-grid inputs differently.  Keras, HGQ2, QKeras and PyTorch models say theirs in a dozen dialects, which
hls4ml's front ends already turn into one graph (bit-exact for HGQ2): `hls4ml_reader` reads that one.
Both hand every node to the layer type that names its kind (`Layer.foreign`), so a new layer is read from
everywhere by its own file.
"""

from codesign.importing.reader import Imported, read_model

__all__ = ["Imported", "read_model"]
