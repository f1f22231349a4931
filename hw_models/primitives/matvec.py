"""Product of a constant matrix and a vector: Dense, and the kernel of a convolution.

Sources: hls4ml 1.3 templates (nnet_dense_latency.h, nnet_dense_resource.h, nnet_mult.h), checked on
the shared synthesis records; adder graphs: random matrices through alkaid 0.8.2.
"""

from collections.abc import Mapping

import numpy as np

from hw_models import weights
from hw_models.distributed import CUT_CROSSING, graph_cost, graph_depth
from hw_models.primitives.base import (
    Array,
    Context,
    OpCost,
    OpParameter,
    Primitive,
    bram_18k_for,
    ceil_log2,
    dsp_per_multiplier,
    dsp_share,
    stream_interval,
)
from hw_models.types import MATVEC_STRATEGIES

_LATENCY, _RESOURCE, _UNROLLED, _RESOURCE_UNROLLED, _DISTRIBUTED = range(len(MATVEC_STRATEGIES))

#: Where `weight_sigma_words` comes from: "given" is used as it is; for the others a multiplier is fitted.
#: All are normal but "initial", the uniform law that layers start from.
WEIGHT_LAWS = ("given", "trained", "pruned", "initial")

PARAMETERS = (
    OpParameter(name="n_in", unit="inputs"),
    OpParameter(name="n_out", unit="outputs"),
    OpParameter(name="reuse_factor", unit="multiplications per multiplier"),
    OpParameter(name="strategy", unit="code of MATVEC_STRATEGIES"),
    OpParameter(name="weight_bits", unit="bits"),
    OpParameter(name="input_bits", unit="bits"),
    OpParameter(name="input_is_signed", unit="0 or 1"),
    OpParameter(name="accumulator_bits", unit="bits", unknown="input + weight + log2(n_in) bits"),
    OpParameter(
        name="output_bits",
        unit="bits of the word that leaves the product",
        unknown="accumulator bits",
        default=float("nan"),
    ),
    OpParameter(
        name="zero_fraction",
        unit="share of weights at zero",
        unknown="what rounding of the prior gives",
    ),
    OpParameter(name="has_bias", unit="0 or 1"),
    OpParameter(
        name="n_positions", unit="products per inference, one after another (pixels)", default=1.0
    ),
    OpParameter(name="n_instances", unit="copies working in parallel (partitions)", default=1.0),
    OpParameter(
        name="n_taps", unit="products that read one value (pixels of a kernel)", default=1.0
    ),
    OpParameter(
        name="weight_sigma_words",
        unit="standard deviation of the weights in units of their last bit",
        unknown="weights scaled to fill their format",
        default=float("nan"),
    ),
    OpParameter(name="weight_law", unit="code of WEIGHT_LAWS", default=0.0),
    OpParameter(
        name="is_widest",
        unit="0 or 1: widths of single weights are learned, unknown, and at most `weight_bits`",
        default=0.0,
    ),
    OpParameter(
        name="n_multipliers", unit="weights in DSPs", unknown="prior", default=float("nan")
    ),
    OpParameter(
        name="n_lut_multipliers",
        unit="weights multiplied in LUTs",
        unknown="prior",
        default=float("nan"),
    ),
    OpParameter(
        name="constant_adders", unit="adds inside constants", unknown="prior", default=float("nan")
    ),
    OpParameter(
        name="csd_digits",
        unit="signed digits of all weights",
        unknown="prior",
        default=float("nan"),
    ),
    OpParameter(
        name="effective_bits",
        unit="bits of all weights between their first and last one",
        unknown="declared width less the sign",
        default=float("nan"),
    ),
    OpParameter(
        name="adder_graph_cost",
        unit="LUTs of the solved adder graph",
        unknown="law",
        default=float("nan"),
    ),
    OpParameter(
        name="adder_graph_depth",
        unit="levels of the solved graph",
        unknown="law",
        default=float("nan"),
    ),
)

# Dynamic energy of an operation, 45 nm ASIC at 0.9 V: integer add 0.03 pJ at 8 bit and 0.1 pJ at 32 bit,
# multiply 0.2 pJ at 8 x 8 and 3.1 pJ at 32 x 32 (Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323,
# figure 1.1.9): linear in bits for adds, in the product of both widths for multiplies.  Soft logic in
# an FPGA takes about 14 times the dynamic power of cells (Kuon and Rose 2007,
# doi:10.1109/TCAD.2006.884574); DSP blocks are cells.
ADD_PJ_PER_BIT = 0.1 / 32
MULTIPLY_PJ_PER_BIT2 = 3.1 / 32**2
SOFT_LOGIC_FACTOR = 14.0


#: Vitis HLS before this version puts every product of three digits and more into a DSP, however narrow: 25 of
#: 50 products of 8 by 8 bits (2021.1), where later ones have none (0 of 279 of 9 by 9 bits, 2023.2).
NARROW_DSP_UNTIL = 2022.0

#: Register behind a layer without any cut of its own: there only between layers.
RELAY = "latency.relay"


def _weights(p: Mapping[str, Array], context: Context) -> dict[str, Array]:
    """Return counts of constants, from exact numbers where given and from the prior elsewhere."""
    n = p["n_in"] * p["n_out"]
    sigma = p["weight_sigma_words"]
    sigma = np.where(
        np.isnan(sigma), 2.0 ** (p["weight_bits"] - 1) / weights.FULL_SCALE_SIGMAS, sigma
    )
    scale = np.array([context.constant(f"weight_sigma|{law}") for law in WEIGHT_LAWS])
    if np.any(scale != 1.0):
        sigma = sigma * scale[p["weight_law"].astype(np.intp)]
    natural = weights.natural_zero_fraction(sigma)
    zero = np.where(np.isnan(p["zero_fraction"]), 0.0, p["zero_fraction"])
    # pruned weights include those that would have rounded to zero
    zero = np.maximum(zero, natural)
    nonzero = n * (
        1 - np.where(np.isnan(p["zero_fraction"]) | (p["zero_fraction"] < natural), natural, zero)
    )
    nonzero = np.where(p["zero_fraction"] < natural, n * (1 - p["zero_fraction"]), nonzero)
    uniform = p["weight_law"] == WEIGHT_LAWS.index("initial")
    shares = weights.prior_shares(sigma, zero, nonzero / p["n_in"], p["input_bits"], uniform)

    def known(name: str, prior: Array) -> Array:
        given = p[name]
        return np.where(np.isnan(given), prior, given)

    multipliers = known("n_multipliers", nonzero * shares.multiplied)
    in_luts = known("n_lut_multipliers", nonzero * (shares.multiplied_any - shares.multiplied))
    adders = known("constant_adders", nonzero * shares.adders)
    # where a user's flow draws the line elsewhere, by the declared widths: fewer DSPs above it, more below
    moved = context.shift(f"dsp_from_bits|{context.tool}")
    if moved:
        is_wide = p["input_bits"] + p["weight_bits"] >= weights.DSP_WIDTH_SUM_BITS + moved
        products = multipliers + in_luts
        multipliers = np.where(is_wide, products if moved < 0 else multipliers, 0.0)
        in_luts = products - multipliers
    wide = multipliers
    if context.tool == "vitis_hls" and context.version < NARROW_DSP_UNTIL:
        # a product of three digits and more holds two adders at least
        adders = np.maximum(adders - 2 * in_luts, 0.0)
        multipliers, in_luts = multipliers + in_luts, np.zeros_like(in_luts)
    return {
        "nonzero": nonzero,
        "multipliers": multipliers,
        # of these, products that fill a DSP: a narrow one is as fast in it as beside it
        "wide_multipliers": wide,
        "lut_multipliers": in_luts,
        "adders": adders,
        "digits": known("csd_digits", nonzero * shares.digits),
    }


def _accumulator_bits(p: Mapping[str, Array]) -> Array:
    if not np.isnan(p["accumulator_bits"]).any():
        return p["accumulator_bits"]
    fan = p["n_in"] * (1 - np.nan_to_num(p["zero_fraction"]))
    full = p["input_bits"] + p["weight_bits"] - 1 + ceil_log2(fan + 1)
    return np.where(np.isnan(p["accumulator_bits"]), full, p["accumulator_bits"])


def _output_bits(p: Mapping[str, Array], a: Array) -> Array:
    """Return the bits of all results of an inference."""
    out = np.where(np.isnan(p["output_bits"]), a, p["output_bits"])
    return p["n_out"] * out * p["n_positions"] * p["n_instances"]


def _energy_pj(p: Mapping[str, Array], w: Mapping[str, Array], a: Array) -> Array:
    multiply = w["multipliers"] * MULTIPLY_PJ_PER_BIT2 * p["input_bits"] * p["weight_bits"]
    soft = (
        SOFT_LOGIC_FACTOR
        * ADD_PJ_PER_BIT
        * (w["nonzero"] * a + w["adders"] * (p["input_bits"] + 2))
    )
    return (multiply + soft) * p["n_positions"] * p["n_instances"]


def unrolled_levels(
    p: Mapping[str, Array], nonzero: Array, multipliers: Array, per_cycle: Array, context: Context
) -> Array:
    """Return levels of the longest path: multiplier and adder tree of the fullest column.

    levels = ceil(log2(max_fan + 1)) + m; max_fan = fan + 2 sqrt(fan (1 - fan / n_in)), at most n_in;
    m = multiplier where more than a few DSPs are used, 1 otherwise, 0 at 3-bit weights and below; a tool may add
    levels of its own.  A multiplier takes the family's levels at 16 x 16 bits and less in proportion to the bits of
    its operands; one that does not fit a cycle is pipelined, and nothing joins it: whole cycles.

    Args:
        p: parameters of the products.
        nonzero, multipliers: constants that are not zero, and of them those in DSPs.
        per_cycle: adder levels that fit a cycle.
        context: family, tool, fitted constants.
    """
    fan = nonzero / p["n_out"]
    spread = np.sqrt(np.maximum(fan * (1 - fan / p["n_in"]), 0))
    max_fan = np.minimum(fan + 2 * spread, p["n_in"])
    family = context.family
    wide_levels = family.multiplier_levels * context.constant(f"multiplier_levels|{family.name}")
    dsp_levels: Array = wide_levels * (p["input_bits"] + p["weight_bits"]) / 32
    dsp_cycles = dsp_levels * family.adder_ns / context.usable_ns
    dsp_levels = np.where(dsp_cycles > 1, np.ceil(dsp_cycles) * per_cycle, dsp_levels)
    multiply = np.where(
        multipliers >= 1 + 0.02 * nonzero, dsp_levels, np.where(p["weight_bits"] <= 3, 0.0, 1.0)
    )
    return ceil_log2(max_fan + 1) + multiply + context.shift(f"extra_levels|{context.tool}")


def levels_per_cycle(p: Mapping[str, Array], a: Array, context: Context) -> Array:
    """Return add levels per clock cycle in HLS: usable_ns / adder_ns, at least 1; a mean, so not whole.

    adder_ns of the family is for 16 bits; width w scales it by 0.55 + 0.45 (w + 2) / 18.
    """
    family = context.family
    adder_ns = (
        family.adder_ns
        * context.constant(f"adder_ns|{family.name}")
        * context.constant(f"adder_ns|{context.tool}")
    )
    width = np.minimum(a, p["input_bits"] + p["weight_bits"])
    delay = adder_ns * (0.55 + 0.45 * (width + 2) / 18)
    return np.maximum(context.usable_ns / delay, 1.0)


def _latency(p: Mapping[str, Array], context: Context) -> OpCost:
    """Latency strategy, and reuse 1 of every strategy: all weights are constants of the logic."""
    x, a = p["input_bits"], _accumulator_bits(p)
    w = _weights(p, context)
    n = p["n_in"] * p["n_out"]
    # the scheduler acts on at most 1023 (RF 1024 in the records gives the limits of 1023)
    reuse = np.minimum(np.minimum(p["reuse_factor"], n), 1023.0)
    k = w["multipliers"]
    tiles = dsp_per_multiplier(x, p["weight_bits"])
    # hls4ml's ALLOCATION pragma: ceil(N / RF) - floor(zeros / RF) multiplier operations
    limit = np.maximum(np.ceil(n / reuse) - np.floor((n - w["nonzero"]) / reuse), 1.0)
    # most products in LUTs are multiplications too and wait in the same queue (8-bit layers: 25 of 41)
    waiting = k + 0.6 * w["lut_multipliers"]
    shared = (reuse > 1) & (waiting > limit)
    dsp = np.where(shared, np.minimum(limit, k), k) * tiles

    per_cycle = levels_per_cycle(p, a, context)
    levels = unrolled_levels(p, w["nonzero"], k, per_cycle, context)
    cuts = np.maximum(np.ceil(levels / per_cycle) - 1, 0.0)
    # Two inputs in turn find a free multiplier within the cycles that the sum takes anyway; a longer queue is
    # followed by the multiplier and the last additions, the other sums being ready: half of the cuts.
    queue = np.ceil(waiting / limit)
    is_overlapped = reuse <= 2
    in_turn = np.where(is_overlapped, np.maximum(cuts, 1.0), queue + np.ceil(cuts / 2))
    latency = np.where(shared, in_turn, cuts)
    # Above a reuse of 2 the network no longer overlaps its functions, whose own interval may be lower: it restarts
    # one cycle after the slowest has ended (layers of 4 and 3 cycles between inputs and 6 of latency: 7)
    # (Resource at reuse 1 is such a function: nothing asks for its overlap)
    alone = np.where((p["strategy"] == _RESOURCE) & (p["n_positions"] <= 1), latency + 1, 1.0)
    interval = np.where(
        reuse > 1, np.where(is_overlapped, np.minimum(reuse, latency + 1), latency + 1), alone
    )

    # outputs without a single weight are constants: nothing is registered for them
    density = np.minimum(w["nonzero"] / n, 1.0)
    n_alive = p["n_out"] * (1.0 - (1.0 - density) ** p["n_in"])
    # values alive at each cut, in accumulators: operands and result of each multiplier while it works (104
    # to 128 registers a DSP on a Zynq-7020 at 5 ns, pruned or not; 21 on a Virtex 7, where the DSP's own
    # registers serve), sums of the tree behind it
    held = 4.8 if context.family.is_slow else 0.4
    in_use = np.where(shared, np.minimum(limit, w["wide_multipliers"]), w["wide_multipliers"])
    out = np.where(np.isnan(p["output_bits"]), a, p["output_bits"])
    fan = w["nonzero"] / p["n_out"]
    multiply = levels - ceil_log2(fan + 1)
    tree, working = np.zeros_like(fan), np.zeros_like(fan)
    for j in range(1, int(min(cuts.max(initial=0.0), 40)) + 1):
        is_tree = j * per_cycle >= multiply
        here = np.clip(fan * 2.0 ** (multiply - j * per_cycle), 1.0, np.maximum(fan, 1.0))
        tree += np.where((j <= cuts) & is_tree, here, 0.0)
        working += np.where((j <= cuts) & ~is_tree, 1.0, 0.0)
    return OpCost(
        latency_cycles=latency,
        interval_cycles=interval,
        depth_levels=levels,
        lut={
            # a column of n weights needs n - 1 adds
            "latency.accumulate": (a + 3) * np.maximum(w["nonzero"] - n_alive, 0.0),
            "latency.constant": (x + p["weight_bits"]) * w["adders"],
            # partial products of several DSPs are added, and registered where the product takes cycles
            "latency.product": k * (6.0 + (tiles - 1) * (x + p["weight_bits"]) / 2),
            "latency.multiply": 0.8 * x * w["lut_multipliers"],
        },
        ff={
            "latency.output": np.where(cuts > 0, n_alive * out, 0.0),
            # the vector of a stream is collected before the products
            "latency.collect": np.where(
                (p["n_positions"] <= 1) & context.is_stream, p["n_in"] * x, 0.0
            ),
            RELAY: np.where(cuts > 0, 0.0, n_alive * out),
            "latency.cuts": 0.8 * n_alive * tree * a,
            "latency.multipliers": working * (held * in_use * a + p["n_in"] * x)
            + np.where(cuts > 0, k * (tiles - 1) * (x + p["weight_bits"]), 0.0),
            "latency.shared": np.where(
                shared & ~is_overlapped,
                a * w["nonzero"] * np.minimum(np.log2(np.maximum(queue, 1.0)) / 16, 0.6),
                0.0,
            ),
        },
        dsp={"latency.multipliers": dsp},
        boundary_cycles=np.ones_like(cuts),
        input_bits=p["n_in"] * x * p["n_positions"],
        output_bits=_output_bits(p, a),
        boundary_stays=(reuse > 1) & (latency > 0),
        energy_pj=_energy_pj(p, w, a),
        prior=np.isnan(p["n_multipliers"]) | np.isnan(p["constant_adders"]),
    )


def _resource(p: Mapping[str, Array], context: Context) -> OpCost:
    """Resource strategy with reuse above 1: block factor multipliers, weights in memory.

    II = RF; latency = RF + 2, or RF + 1 at 4 bits and below with RF = 2 n_in; DSP = ceil(N / RF) from
    8 bits up, 0.95 of it at 6, none at 4 and below (16-bit data).
    """
    x, w, a = p["input_bits"], p["weight_bits"], _accumulator_bits(p)
    n_in, n_out = p["n_in"], p["n_out"]
    reuse = np.minimum(p["reuse_factor"], n_in * n_out)
    block = np.ceil(n_in * n_out / reuse)
    share = dsp_share(x, w)
    if moved := context.shift(f"dsp_from_bits|{context.tool}"):
        is_wide = x + w >= weights.DSP_WIDTH_SUM_BITS + moved
        share = np.where(is_wide, 1.0 if moved < 0 else share, 0.0)
    dsp = np.where(share < 1, share * block, block) * dsp_per_multiplier(x, w)
    soft = (1 - share) * block

    is_static = reuse <= n_in  # the output index is a constant of the unrolled loop
    is_double = reuse == 2 * n_in
    mux = np.where(is_double, 41.0, 5.4 * 2.0 ** ceil_log2(n_out)) * a / 16
    register = np.where(is_double, 8.0, 16.0) * a / 16
    # static index: an adder and its share of the control a multiplier, with operand and sum registers
    mux = np.where(is_static, 3.5 * (a + 7), mux)
    register = np.where(is_static, 2.4 * (x + a) * np.sqrt(dsp_per_multiplier(x, w)), register)
    # one multiplexer of the inputs; the dynamic index of io_parallel makes it dear
    dear = ~is_static & (not context.is_stream)
    # 4,450 LUT in layers of 32 x 32 to 256 x 256 (871 reports); smaller ones were not seen
    control = np.minimum(4450.0, 4.35 * n_in * n_out)
    # The vector of a stream is collected before the first product.  Where every multiplier reads some of it in turn
    # it is handed through registers, with a choice among R values at each multiplier (784, 384 and 3,200 inputs of
    # three authors: 3 to 4 copies, 2 to 5 LUT a bit); one multiplier after another reads it from where it lies (2,048)
    collected = (p["n_positions"] <= 1) & context.is_stream
    vector = np.where(collected, n_in * x, 0.0)
    bits = block * w
    index_rom = np.where(reuse > 2 * n_in, 1.0, 0.0)
    return OpCost(
        latency_cycles=reuse + np.where((w <= 4) & is_double, 1.0, 2.0),
        interval_cycles=reuse,
        depth_levels=np.zeros_like(reuse),
        lut={
            "resource.lanes": np.where(
                dear, 33 * n_in * x / 16 + 24 * n_out * a / 16 + control, 0.0
            ),
            "resource.select": np.where(dear, 0.0, 0.25 * n_in * x),
            "resource.collect": np.where(is_static, 2.5 * vector, 0.0),
            "resource.mux": np.where(is_static, 0.0, mux * block),
            "resource.accumulate": np.where(is_static, mux * block, 0.0),
            "resource.multiply": 0.8 * x * w * soft * 0.1,
            "resource.control": np.where(dear, 0.0, 900.0),
        },
        ff={
            "resource.lanes": np.where(dear, n_out * a, 0.0),
            "resource.outputs": np.where(dear, 0.0, n_out * a),
            "resource.product": np.where(is_static, 0.0, register * block),
            "resource.operands": np.where(is_static, register * block, 0.0),
            "resource.inputs": np.where(is_static, 3.0, 1.0) * vector,
            "resource.control": np.full_like(reuse, 130.0),
        },
        dsp={"resource.multipliers": dsp},
        bram_18k={"resource.weights": bram_18k_for(reuse, bits) + index_rom},
        output_bits=_output_bits(p, a),
        energy_pj=(
            n_in
            * n_out
            * p["n_positions"]
            * p["n_instances"]
            * (MULTIPLY_PJ_PER_BIT2 * x * w + SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * a)
        ),
    )


def _resource_unrolled(p: Mapping[str, Array], context: Context) -> OpCost:
    """Unrolled kernels with reuse above 1: known zeros vanish, the rest share ceil(nonzero / RF) multipliers.

    Source: hls4ml 1.3 nnet_dense_resource_unrolled (generated code); no report of it in the records.
    """
    x, w, a = p["input_bits"], p["weight_bits"], _accumulator_bits(p)
    counts = _weights(p, context)
    n = p["n_in"] * p["n_out"]
    reuse = np.minimum(p["reuse_factor"], n)
    block = np.ceil(counts["nonzero"] / reuse)
    in_dsp = x + w >= weights.DSP_WIDTH_SUM_BITS
    return OpCost(
        latency_cycles=reuse + 2,
        interval_cycles=reuse,
        depth_levels=np.zeros_like(reuse),
        lut={
            "unrolled.accumulate": a * block + 24 * p["n_out"] * a / 16,
            # each multiplier selects among RF constants: one 6-input LUT holds 64 cases of one bit
            "unrolled.select": w * block * np.ceil(reuse / 64) + x * block * np.ceil(reuse / 4),
            "unrolled.multiply": np.where(in_dsp, 0.0, 0.8 * x * w * block),
        },
        ff={
            "unrolled.boundary": p["n_in"] * x + p["n_out"] * a,
            "unrolled.product": (x + w) * block,
        },
        dsp={"unrolled.multipliers": np.where(in_dsp, block * dsp_per_multiplier(x, w), 0.0)},
        output_bits=_output_bits(p, a),
        energy_pj=_energy_pj(p, counts, a),
        prior=np.isnan(p["zero_fraction"]),
    )


def _distributed(p: Mapping[str, Array], context: Context) -> OpCost:
    """Distributed arithmetic: the whole product is one graph of adders, II = 1, no DSP."""
    x, a = p["input_bits"], _accumulator_bits(p)
    w = _weights(p, context)
    cost = graph_cost(p["n_in"], p["n_out"], w["digits"], w["nonzero"], x, p["weight_bits"])
    cost = np.where(np.isnan(p["adder_graph_cost"]), cost, p["adder_graph_cost"])
    # the bias joins the sums without a level or an adder of its own (160 synthesised networks)
    depth = graph_depth(p["n_out"], w["digits"], x, p["weight_bits"])
    depth = np.where(np.isnan(p["adder_graph_depth"]), depth, p["adder_graph_depth"])
    if context.is_rtl:
        cuts = np.zeros_like(cost)
    else:
        cuts = np.maximum(np.ceil(depth / levels_per_cycle(p, a, context)) - 1, 0.0)
    return OpCost(
        latency_cycles=cuts,
        interval_cycles=np.ones_like(cost),
        depth_levels=depth,
        boundary_cycles=0.0 if context.is_rtl else 1.0,
        input_bits=p["n_in"] * x * p["n_positions"],
        lut={"distributed.graph": cost},
        ff={} if context.is_rtl else {
            "distributed.boundary": p["n_out"] * a,
            "distributed.cuts": cuts * CUT_CROSSING * (cost / np.maximum(depth, 1.0)),
        },
        energy_pj=SOFT_LOGIC_FACTOR * ADD_PJ_PER_BIT * cost * p["n_positions"] * p["n_instances"],
        cut_bits=CUT_CROSSING * cost / np.maximum(depth, 1.0),
        output_bits=p["n_out"] * -np.expm1(-w["nonzero"] / p["n_out"]) * a,
        prior=np.isnan(p["adder_graph_cost"]),
    )  # fmt: skip


_LAWS = {
    _LATENCY: _latency,
    _RESOURCE: _resource,
    _UNROLLED: _resource_unrolled,
    _RESOURCE_UNROLLED: _resource_unrolled,
    _DISTRIBUTED: _distributed,
}


def _merge(parts: list[tuple[np.ndarray, OpCost]], m: int) -> OpCost:
    """Scatter the costs of disjoint subsets into one cost of all m operations."""

    def scatter(name: str) -> Array:
        whole = np.zeros(m)
        for index, cost in parts:
            whole[index] = getattr(cost, name)
        return whole

    def terms(name: str) -> dict[str, Array]:
        whole: dict[str, Array] = {}
        for index, cost in parts:
            for term, value in getattr(cost, name).items():
                whole.setdefault(term, np.zeros(m))[index] = value
        return whole

    return OpCost(
        latency_cycles=scatter("latency_cycles"),
        interval_cycles=scatter("interval_cycles"),
        depth_levels=scatter("depth_levels"),
        lut=terms("lut"),
        ff=terms("ff"),
        dsp=terms("dsp"),
        bram_18k=terms("bram_18k"),
        energy_pj=scatter("energy_pj"),
        cut_bits=scatter("cut_bits"),
        output_bits=scatter("output_bits"),
        boundary_cycles=scatter("boundary_cycles"),
        input_bits=scatter("input_bits"),
        boundary_stays=scatter("boundary_stays").astype(bool),
        prior=scatter("prior").astype(bool),
    )


def cost(p: Mapping[str, Array], context: Context) -> OpCost:
    """Cost of m products, each by the law of its strategy; reuse 1 makes every strategy but
    distributed arithmetic a constant-weight kernel.
    """
    strategy = p["strategy"].astype(np.int64)
    law = np.where((p["reuse_factor"] <= 1) & (strategy != _DISTRIBUTED), _LATENCY, strategy)
    codes = np.flatnonzero(np.bincount(law, minlength=len(MATVEC_STRATEGIES)))
    if codes.size == 1:
        result = _LAWS[int(codes[0])](p, context)
    else:
        parts = []
        for code in codes:
            index = np.flatnonzero(law == code)
            parts.append(
                (index, _LAWS[int(code)]({k: v[index] for k, v in p.items()}, context.rows(index)))
            )
        result = _merge(parts, law.size)
    if np.any(p["n_instances"] != 1):
        for name in ("lut", "ff", "dsp", "bram_18k"):
            for term in getattr(result, name):
                getattr(result, name)[term] = getattr(result, name)[term] * p["n_instances"]
    if context.is_stream:
        result.latency_cycles = result.latency_cycles + result.boundary_cycles
        result.interval_cycles = np.maximum(
            result.interval_cycles, stream_interval(result.latency_cycles, context)
        )
    # what lies between turns at plain RTL has a primitive of its own
    if np.any(p["n_positions"] != 1) and not context.is_rtl:
        _repeat(result, p, context)
    return result


def _repeat(result: OpCost, p: Mapping[str, Array], context: Context) -> None:
    """Turn the cost of one product into that of `n_positions` products one after another."""
    serial = p["n_positions"] > 1
    if context.is_stream:
        # a product and a sum behind each pixel's last weight: 5 cycles at 5 ns on an UltraScale+, 6 on an
        # UltraScale, 11 on a Zynq-7020; where the words are too narrow for a DSP 6 at 5 ns and 4 at 10
        family = context.family
        product = family.adder_ns * family.multiplier_levels / context.usable_ns
        scale = context.constant(f"pixel_overhead|{context.tool}")
        in_dsp = dsp_share(p["input_bits"], p["weight_bits"]) > 0
        narrow = np.where(context.usable_ns < 6.0, 6.0, 4.0)
        overhead = np.where(in_dsp, np.rint((4 + 1.75 * product) * scale), narrow)
        # the Vitis back end before 2023.2 does not overlap pixels: 2 D + 1 cycles each
        overlapped = not (context.tool == "vitis_hls" and context.version < 2023.15)
        constant = 1.0 if overlapped else 2 * (result.latency_cycles - result.boundary_cycles) + 1
        per_pixel = np.where(p["reuse_factor"] > 1, result.interval_cycles + overhead, constant)
    else:
        per_pixel = result.interval_cycles
    total = p["n_positions"] * per_pixel + result.latency_cycles + 2
    fill = result.latency_cycles + 2
    restarts = context.is_stream or context.tool == "vitis_hls"
    if not context.is_stream:
        # every pixel's window is selected from the registered image, 3 inputs of a multiplexer a LUT, and
        # every result is stored where it belongs: two pointwise layers of 16 positions have 17,575 and
        # 15,475 FF, 16,300 and 15,500 with image and results registered
        window = p["n_in"] * p["input_bits"] * p["n_positions"] * p["n_instances"]
        stored = _output_bits(p, _accumulator_bits(p))
        result.lut["positions.select"] = np.where(serial, window / 3, 0.0)
        result.lut["positions.store"] = np.where(serial, stored, 0.0)
        # a first layer's image is the design's input: registered once
        result.input_bits = np.where(serial, 0.0, result.input_bits)
        result.ff["positions.image"] = np.where(serial, window / p["n_taps"], 0.0)
        result.ff["positions.store"] = np.where(serial, stored, 0.0)
    interval = total + (context.tool == "vitis_hls") if restarts else p["n_positions"] * per_pixel
    result.fill_cycles = np.where(serial, fill, result.latency_cycles)
    result.latency_cycles = np.where(serial, total, result.latency_cycles)
    result.interval_cycles = np.where(serial, interval, result.interval_cycles)


PRIMITIVE = Primitive(name="matvec", parameters=PARAMETERS, cost=cost)
