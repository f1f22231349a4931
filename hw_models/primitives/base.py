"""What a primitive declares: its parameters, and a cost law over arrays of operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hw_models.errors import ModelError
from hw_models.families import Family

Array = NDArray[np.float64]
#: Cost terms of one resource: name of the term -> float[m], before the fitted factor.
Terms = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class OpParameter:
    """One declared parameter of a primitive.

    Attributes:
        name: key in `OpBatch.parameters`.
        unit: what it counts ("bits", "lanes", "code of MATVEC_STRATEGIES", ...).
        unknown: what NaN means; "" where NaN is refused.
        default: value for a batch that leaves the parameter out; None where it must be given.
    """

    name: str
    unit: str
    unknown: str = ""
    default: float | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a cost law needs beside its parameters.

    Attributes:
        usable_ns: float[m], clock period left for logic, per operation.
        levels_per_cycle: float[m], adder levels per stage of plain RTL (alkaid).
        family: device family.
        tool: key of the tool.
        version: year and minor release of the tool (2023.1), NaN when unknown.
        is_stream: io_stream rather than io_parallel.
        is_rtl: plain adder-graph RTL, cut into stages over the whole network, rather than HLS.
        timing: fitted multipliers of the timing constants; 1 where a name is missing.
    """

    usable_ns: Array
    levels_per_cycle: Array
    family: Family
    tool: str
    version: float
    is_stream: bool
    is_rtl: bool
    timing: Mapping[str, float]

    def constant(self, name: str) -> float:
        """Return the fitted multiplier of a timing constant, 1 when not fitted."""
        return float(self.timing.get(name, 1.0))

    def shift(self, name: str) -> float:
        """Return a fitted additive constant, 0 when not fitted."""
        return float(self.timing.get(name, 0.0))

    def rows(self, index: NDArray[np.intp]) -> "Context":
        """Return the context of the operations `index`."""
        return Context(
            usable_ns=self.usable_ns[index],
            levels_per_cycle=self.levels_per_cycle[index],
            family=self.family,
            tool=self.tool,
            version=self.version,
            is_stream=self.is_stream,
            is_rtl=self.is_rtl,
            timing=self.timing,
        )


@dataclass(kw_only=True)
class OpCost:
    """What m operations of one primitive cost, term by term.

    Attributes:
        latency_cycles: float[m], from input to output of the operation (whole transaction in io_stream).
        interval_cycles: float[m], between two inputs (two transactions in io_stream).
        depth_levels: float[m], combinational adder levels, used instead of latency in RTL.
        lut, ff, dsp, bram_18k: terms, float[m] each.
        boundary_cycles: register stage between this operation and its neighbours, absent when it is alone.
        boundary_stays: True where that stage is there even when the operation is alone.
        fill_cycles: float[m], what it adds to an io_stream design when it is not the slowest; None:
            its whole latency (it waits for its last input).
        input_bits: float[m], bits that a design starting with this operation registers at its input.
        energy_pj: float[m], dynamic energy per inference.
        cut_bits: float[m], bits alive at a pipeline cut inside the operation (RTL).
        output_bits: float[m], bits that a design ending with this operation registers (RTL).
        prior: float[m] bool, True where unknown weights were replaced by a prior.
    """

    latency_cycles: Array
    interval_cycles: Array
    depth_levels: Array
    lut: Terms = field(default_factory=dict)
    ff: Terms = field(default_factory=dict)
    dsp: Terms = field(default_factory=dict)
    bram_18k: Terms = field(default_factory=dict)
    boundary_cycles: Array | float = 0.0
    boundary_stays: NDArray[np.bool_] | bool = False
    fill_cycles: Array | None = None
    input_bits: Array | float = 0.0
    energy_pj: Array | float = 0.0
    cut_bits: Array | float = 0.0
    output_bits: Array | float = 0.0
    prior: NDArray[np.bool_] | bool = False

    @property
    def fill(self) -> Array:
        """Cycles that this operation adds to a stream when another one is the slowest."""
        return self.latency_cycles if self.fill_cycles is None else self.fill_cycles


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """A hardware operation with a cost law.

    Attributes:
        name: registered name; a file format, never renamed.
        parameters: what `OpBatch.parameters` must hold.
        cost: vectorised law: parameters (float[m] each) and context to costs.
    """

    name: str
    parameters: tuple[OpParameter, ...]
    cost: Callable[[Mapping[str, Array], Context], OpCost]

    def resolve(self, given: Mapping[str, NDArray[np.generic]], m: int) -> dict[str, Array]:
        """Return all parameters as float[m], defaults filled in.

        Raises:
            ModelError: a parameter is missing, unknown, of another length, or NaN where it must be known.
        """
        declared = {p.name for p in self.parameters}
        extra = sorted(set(given) - declared)
        if extra:
            raise ModelError(
                f"primitive {self.name}: unknown parameter {extra[0]!r}; "
                f"expected some of {', '.join(sorted(declared))}; remove it or rename it"
            )
        resolved: dict[str, Array] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name)
            if value is None:
                if parameter.default is None:
                    raise ModelError(
                        f"primitive {self.name}: parameter {parameter.name!r} ({parameter.unit}) is missing; "
                        "give one array per operation"
                    )
                resolved[parameter.name] = np.broadcast_to(np.float64(parameter.default), (m,))
                continue
            array = np.asarray(value, dtype=np.float64)
            if array.shape != (m,):
                raise ModelError(
                    f"primitive {self.name}: parameter {parameter.name!r} has shape {array.shape}, "
                    f"expected ({m},); give one value per operation"
                )
            if not parameter.unknown and np.isnan(array.sum()):
                raise ModelError(
                    f"primitive {self.name}: parameter {parameter.name!r} is NaN for operation "
                    f"{int(np.argmax(np.isnan(array)))}; it must be known ({parameter.unit})"
                )
            resolved[parameter.name] = array
        return resolved


def ceil_log2(x: Array) -> Array:
    """Return ceil(log2(x)), 0 for x <= 1; exact at powers of two."""
    return np.ceil(np.log2(np.maximum(x, 1.0)) - 1e-12)


def dsp_per_multiplier(first_bits: Array, second_bits: Array) -> Array:
    """Count DSP blocks of one wide product: tiles of 18 x 26 bits (AMD UG579: 27 x 18 two's complement)."""
    wide, narrow = np.maximum(first_bits, second_bits), np.minimum(first_bits, second_bits)
    return np.ceil(wide / 26) * np.ceil(narrow / 18)


def dsp_share(first_bits: Array, second_bits: Array) -> Array:
    """Return the share of products of two variables that go to DSPs, by the area of their operands in bits.

    None below 70, all from 112 (14 x 6 bits: 120 of 120; 8 x 8 and 16 x 4: none, in 250 reports and more).
    """
    area = first_bits * second_bits
    return np.where(area >= 112, 1.0, np.where(area >= 80, 0.95, np.where(area >= 70, 0.5, 0.0)))


def rtl_dsp_share(product_bits: Array) -> Array:
    """Return the share of products of two variables in plain RTL that go to DSPs: all of 9 bits and more.

    Source: Yosys, `synth_xilinx` (DSP_Y_MINWIDTH=9 of its mul2dsp pass); products of 2 x 2, 3 x 3 and 4 x 4 bits
    take 4, 8 and 26 LUTs, wider ones one DSP48 (measured with `codesign synthesize`'s flow).
    """
    return np.where(product_bits >= 9.0, 1.0, 0.0)


def bram_18k_for(depth_words: Array, width_bits: Array) -> Array:
    """Count RAMB18 blocks that hold `depth_words` words of `width_bits` each, single port.

    Up to 512 words deep a block is 36 bits wide; up to 1024, 18 bits; deeper memories are stacked
    36-bit words with 18- and 9-bit leftovers.  Zero where the memory is empty.

    Source: AMD UG573 (aspect ratios of RAMB18E2); stacking read from Vivado HLS reports of hls4ml.
    """
    shallow = np.ceil(width_bits / 36)
    medium = np.ceil(width_bits / 18)
    whole = np.floor(width_bits / 36)
    rest = width_bits - 36 * whole
    rest_blocks = np.where(
        rest <= 0,
        0.0,
        np.where(
            rest <= 9,
            np.ceil(depth_words / 2048),
            np.where(rest <= 18, np.ceil(depth_words / 1024), np.ceil(depth_words / 512)),
        ),
    )
    deep = whole * np.ceil(depth_words / 512) + rest_blocks
    blocks = np.where(depth_words <= 512, shallow, np.where(depth_words <= 1024, medium, deep))
    return np.where((depth_words > 0) & (width_bits > 0), blocks, 0.0)


def stream_interval(latency_cycles: Array, context: Context) -> Array:
    """Return the interval of a stream operation on one vector: pipelined in Vivado, restarted in Vitis.

    Vitis dataflow processes start anew for each transaction: interval = latency + 1.  Vivado HLS
    overlaps them: 1.  Source: io_stream MLP reports of the hls4ml baselines (2020.1; 2023.1, 2024.1).
    """
    return latency_cycles + 1 if context.tool == "vitis_hls" else np.ones_like(latency_cycles)
