"""A layer type and a space template as another package would bring them: nothing else knows of either."""

from dataclasses import replace

import numpy as np

from codesign.errors import ExportError
from codesign.layers import LAYERS
from codesign.layers._export import cpp_loop, cpp_word
from codesign.layers._training import MovingModule
from codesign.layers.base import Layer, Parameter, WordRange
from codesign.space.templates import TEMPLATES
from codesign.space.templates._shared import HARDWARE, GeneTable, PopulationBuilder
from codesign.space.templates.base import Template
from hw_models.lowering import Copy


class LeadingModule(MovingModule):
    """k selections of the first positions."""

    def elements(self, nodes):
        (n_positions,) = nodes.input_positions
        lane, position = np.divmod(
            np.arange(nodes.padded_output * nodes.n_positions), nodes.n_positions
        )
        return np.tile(lane * n_positions + position, (nodes.k, 1))


class Leading(Layer):
    """The first `kept` positions."""

    name = "leading"
    ranks = (2,)
    parameters = (
        Parameter(name="kept", column="kept", minimum=1, maximum=64, description="positions kept"),
    )

    def propagate(self, parameters, inputs):
        (source,) = inputs
        return replace(source, n_columns=np.minimum(parameters["kept"], source.n_columns))

    def describe(self, columns):
        return (Copy(n_lanes=columns["n_out"] * columns["n_copies"], bits=columns["output_bits"]),)

    def train_module(self, nodes):
        return LeadingModule(nodes)

    def infer(self, site):
        kept, source = int(site.node.parameters["kept"]), site.source
        low, high = source.low[:kept], source.high[:kept]
        return WordRange.exact(low, high, source.type.fraction_bits)

    def largest_sum(self, site):
        return site.output.largest

    def run_words(self, site, inputs):
        return inputs[0][:, : site.output.shape[0]]

    def torch_exact(self, site, inputs):
        return inputs[0][:, : site.output.shape[0]]

    def to_onnx(self, site, graph, inputs):
        ends = (graph.integers([n]) for n in (0, site.output.shape[0], 1))
        return graph.operator("Slice", inputs[0], *ends)

    def to_hls4ml(self, site, graph, inputs):
        raise ExportError(f"{site.node.name}: hls4ml has no slice; use plain RTL")

    def to_rtl(self, site, inputs):
        return inputs[0][: site.output.shape[0]]

    def to_cpp(self, site):
        return cpp_loop(site.node.name, site.output.size, cpp_word(site.node.inputs[0]))

    def examples(self):
        return [{"kept": 2}]


LAYERS.add(Leading.name, Leading())


class Cut(Template):
    """Dense on every particle, the first few of them, dense on these."""

    name = "cut"
    domain_names = ("kept", "width", "input_bits", "result_bits", "flow", "clock_mhz", *HARDWARE)

    def __init__(self, domains, *, input_shape, n_outputs):
        genes = {name: name for name in self.domain_names if name not in HARDWARE}
        genes |= {f"{name}_{part}": name for part in ("body", "head") for name in HARDWARE}
        self._shape, self._n_outputs = input_shape, n_outputs
        self._table = GeneTable.build(domains, genes)

    @property
    def genes(self):
        return self._table.genes

    def canonicalize(self, genomes):
        out, table = genomes.copy(), self._table
        width = table.numbers(out, "width").astype(np.int64)
        kept = table.numbers(out, "kept").astype(np.int64)
        n_in, n_out = (np.full_like(width, n) for n in (self._shape[-1], self._n_outputs))
        table.clear_hardware(out, "body", n_in=n_in, n_out=width, is_positional=True)
        table.clear_hardware(out, "head", n_in=width * kept, n_out=n_out)
        return out

    def decode(self, genomes):
        table, n = self._table, len(genomes)
        names = LAYERS.names()
        builder = PopulationBuilder(n, {name: i for i, name in enumerate(names)})
        everyone, bits = np.ones(n, dtype=bool), table.numbers(genomes, "result_bits")
        shape = {"n_columns": self._shape[0], "n_out": self._shape[1]}
        columns = {name: np.full(n, float(value)) for name, value in shape.items()}
        input_bits = table.numbers(genomes, "input_bits")
        tip = builder.add(everyone, "input", [], output_bits=input_bits, **columns)
        width, hardware = table.numbers(genomes, "width"), table.hardware(genomes, "body")
        tip = builder.add(everyone, "dense", [tip], n_out=width, **hardware)
        tip = builder.add(everyone, "relu", [tip], output_bits=bits)
        tip = builder.add(everyone, "leading", [tip], kept=table.numbers(genomes, "kept"))
        tip = builder.add(everyone, "flatten", [tip])
        outputs, hardware = np.full(n, float(self._n_outputs)), table.hardware(genomes, "head")
        tip = builder.add(everyone, "dense", [tip], n_out=outputs, **hardware)
        builder.add(everyone, "linear", [tip], output_bits=bits + 6)
        return builder.finish(layer_names=names, **table.deployment(genomes))


TEMPLATES.add(Cut.name, Cut)
