"""RTL of a quantized network: traced with alkaid, pipelined for the clock, Verilog or VHDL.

alkaid solves every matrix product as a graph of adders (distributed arithmetic) and cuts the whole
network into pipeline stages; a top module around its core has plain ports: lane i of `x` and of `y` is
the raw two's-complement word of input i and output i, in exactly the network's formats. Another module,
`<name>_valid`, adds valid and reset for neighbours that speak of them.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError, DesignError, ExportError
from codesign.export.plan import ProjectPlan
from codesign.export.templates import check_identifier, check_part, render
from codesign.hardware.scorer import SolvedGraph
from codesign.ir import FixedPoint, QuantizedNetwork
from codesign.layers import LAYERS, typed
from codesign.layers.base import Site
from hw_models.families import DEFAULT_UNCERTAINTY, adder_levels_per_cycle

if TYPE_CHECKING:
    from alkaid.codegen import RTLModel
    from alkaid.trace import FVArray
    from alkaid.types import CombLogic

FLAVORS = {"verilog": "v", "vhdl": "vhd"}

#: Where a file says what a module is called; alkaid calls helpers, stages and tables alike in every design.
_MODULE = re.compile(rb"^\s*(?:module|entity)\s+(\w+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class RtlExport:
    """A network as RTL.

    Attributes:
        name: top module.
        flavor: "verilog" or "vhdl".
        plan: sources, constraints, scripts, testbench.
        sources: names of the HDL files in compilation order, without the testbench.
        latency_cycles: clock edges from the edge that samples `x` to the edge that sets `y`.
        interval_cycles: cycles between two inputs.
        adder_cost: alkaid's estimate of LUTs.
        register_bits: flip-flops, predicted.
        adder_levels: longest path through adders, in alkaid's delay units (one full adder level is about 1).
        levels_per_cycle: delay units allowed between two registers at this clock.
    """

    name: str
    flavor: str
    plan: ProjectPlan
    sources: tuple[str, ...]
    latency_cycles: int
    interval_cycles: int
    adder_cost: float
    register_bits: int
    adder_levels: float
    levels_per_cycle: float

    @classmethod
    def read(cls, plan: ProjectPlan, origin: str) -> RtlExport:
        """Read an export back from its files.

        Args:
            plan: the files.
            origin: where they lie, for errors.

        Raises:
            DesignError: there is no `rtl.json`, or it is damaged or of another schema.
            ExportError: a name in it is not allowed.
        """
        if "rtl.json" not in plan.files:
            raise DesignError(f"{origin} holds no RTL export (no rtl.json); export it first")
        try:
            facts = json.loads(plan.files["rtl.json"])
            if facts["schema"] != 1:
                raise DesignError(
                    f"{origin}/rtl.json has another schema; export the candidate again"
                )
            return cls(
                name=check_identifier(str(facts["top"])),
                flavor=str(facts["flavor"]),
                plan=plan,
                sources=tuple(map(str, facts["sources"])),
                latency_cycles=int(facts["latency_cycles"]),
                interval_cycles=int(facts["interval_cycles"]),
                adder_cost=float(facts["predicted"]["lut"]),
                register_bits=int(facts["predicted"]["ff"]),
                adder_levels=float(facts["adder_levels"]),
                levels_per_cycle=float(facts["levels_per_cycle"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CodesignError):
                raise
            raise DesignError(
                f"{origin}/rtl.json lacks or garbles {error}; export the candidate again"
            ) from error


def trace_network(network: QuantizedNetwork) -> CombLogic:
    """Trace a network with alkaid: exact combinational logic from input words to output words.

    Raises:
        ExportError: no output depends on any input, so there is nothing to build.
    """
    sites = typed(network)
    return trace_sites(sites, open_lanes(network, sites.input.shape), {})


def open_lanes(network: QuantizedNetwork, shape: tuple[int, ...]) -> FVArray:
    """Return lanes for a trace to start from, with what the candidate says of its solution."""
    from alkaid.trace import FVArrayInput, HWConfig

    spare = network.candidate.hardware.spare_adder_levels
    options: Any = {} if spare is None else {"hard_dc": spare}
    return FVArrayInput(shape, HWConfig(1, -1, -1), options)


def adder_cost(logic: CombLogic) -> float:
    """Return alkaid's estimate of LUTs, to the same last digit on every Python.

    `logic.cost` adds with `sum`, which rounds otherwise from Python 3.12 on.
    """
    return math.fsum(operation.cost for operation in logic.ops)


def trace_sites(
    sites: Iterable[Site],
    source: FVArray,
    lanes: dict[str, Any],
    written: Sequence[str] | None = None,
) -> CombLogic:
    """Trace nodes with alkaid.

    Args:
        sites: the nodes, in order.
        source: what is read where a node has no inputs.
        lanes: of nodes traced before, by name; those of `sites` are added.
        written: nodes whose lanes are the outputs, one after another; by default the last of `sites`.

    Raises:
        ExportError: no output depends on any input.
    """
    from alkaid.trace import trace
    from alkaid.trace.passes import optimize

    outputs: Any = source
    for site in sites:
        inputs = [lanes[name] for name in site.node.inputs] or [source]
        outputs = LAYERS.get(site.node.layer).to_rtl(site, inputs)
        lanes[site.node.name] = outputs
    if written is not None:
        outputs = np.concatenate([lanes[name].reshape(-1) for name in written])
    _delay_behind_sources(np.asarray(outputs).ravel())
    plain = trace(source, outputs, optimize=False)
    logic = optimize(plain, keep_dead_inputs=True)
    if _n_unsigned_choices(logic) > _n_unsigned_choices(plain):
        logic = optimize(plain, keep_dead_inputs=True, retrace=False)
    if not np.asarray(logic.inp_kifs).sum(axis=0).any():
        raise ExportError(
            "the outputs depend on no input, so there is no logic to build; train the network again"
        )
    return logic


def _n_unsigned_choices(logic: CombLogic) -> int:
    """Count the choices by a sign bit whose word has none.

    alkaid 0.8.2 saturates by such choices.  When it traces a network a second time it knows ranges better; where a word
    then cannot be negative, it looks at the highest bit of its magnitude instead and takes large values for small.
    """
    return sum(op.opcode == 6 and logic.ops[op.addr[2]].qint.min >= 0 for op in logic.ops)


def _delay_behind_sources(outputs: Iterable[Any]) -> None:
    """Let no variable of a trace be ready before what it is computed from.

    alkaid 0.8.2 sorts by latency, and computes that of some wide adders below that of their inputs.
    """
    latency: dict[Any, float] = {}
    pending = [(v, False) for v in outputs if hasattr(v, "_from")]
    while pending:
        variable, is_ready = pending.pop()
        if variable.id in latency and not is_ready:
            continue
        if not is_ready:
            pending.append((variable, True))
            pending += [(source, False) for source in variable._from or ()]
            continue
        for source in variable._from or ():
            source.latency = latency[source.id]
        sources = (latency[source.id] for source in variable._from or ())
        latency[variable.id] = max(variable.latency, *sources, latency.get(variable.id, 0.0))
        variable.latency = latency[variable.id]


def run_trace(
    logic: CombLogic, network: QuantizedNetwork, words: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Evaluate traced logic with alkaid's bit-exact interpreter: what the RTL computes, without building it.

    Args:
        logic: what `trace_network` returned for `network`.
        network: the network.
        words: int64[n, n_inputs].

    Returns:
        int64[n, n_outputs].
    """
    from codesign.export.onnx import checked_words

    values = network.input_format.values_from_words(np.asarray(words, dtype=np.int64))
    output = logic.predict(np.ascontiguousarray(values), n_threads=1)
    return checked_words(output, network.output_format, "alkaid's interpreter")


def _pipelined(
    logic: CombLogic, clock_period_ns: float, name: str, flavor: str, part: str
) -> tuple[RTLModel, float]:
    """Cut traced logic to a clock; also return the adder levels between two registers."""
    from alkaid.codegen import RTLModel

    cutoff = float(adder_levels_per_cycle(clock_period_ns, part))
    model = RTLModel(
        logic,
        Path(name),  # not written to: see `_core_sources`
        f"{name}_core",
        flavor=flavor,
        latency_cutoff=cutoff,
        part_name=part,
        clock_period=clock_period_ns,
        print_latency=False,
    )
    return model, cutoff


def solve_network(network: QuantizedNetwork) -> SolvedGraph | None:
    """Solve the adder graph of a whole network and cut it to its clock, without writing any RTL.

    Returns:
        What `export_rtl` would build, by alkaid's own cost; None when there is no logic to build.
    """
    return solve_at_clocks(network, [network.candidate.hardware.clock_period_ns])[0]


def solve_at_clocks(
    network: QuantizedNetwork, clock_periods_ns: Sequence[float]
) -> list[SolvedGraph | None]:
    """Solve the adder graph of a whole network once, and cut it to each of several clocks.

    Args:
        network: the network.
        clock_periods_ns: the clocks; registers and cycles differ between them, the adders do not.

    Returns:
        As `solve_network`, one per clock.
    """
    interval_cycles = network.candidate.hardware.interval_cycles
    try:
        if interval_cycles > 1:
            from codesign.export.shared_rtl import solve_shared

            return solve_shared(network, interval_cycles, clock_periods_ns)
        logic = trace_network(network)
    except ExportError:
        return [None] * len(clock_periods_ns)
    solved: list[SolvedGraph | None] = []
    for period_ns in clock_periods_ns:
        cut = cut_to_clock(logic, period_ns, network.candidate.hardware.part)
        solved.append(
            None
            if cut is None
            else SolvedGraph(
                adder_cost=adder_cost(logic),
                register_bits=float(cut[1]),
                latency_cycles=float(cut[0]),
                adder_levels=float(logic.latency[1]),
            )
        )
    return solved


#: Graphs of more LUTs than that are solved once: their solutions take long, and differ by little.
_SOLVED_ONCE_LUT = 20_000.0
#: `HardwareConfig.spare_adder_levels` that are tried: with fewer levels adders cost up to 5 % more.
_SPARE_ADDER_LEVELS = (None, 1, 0)


def solve_at_depths(
    network: QuantizedNetwork, clock_periods_ns: Sequence[float]
) -> list[tuple[QuantizedNetwork, list[SolvedGraph | None]]]:
    """Solve a network's adder graph as cheap as it gets, and shallower.

    Returns:
        The network with each depth that was tried in its hardware configuration, and what
        `solve_at_clocks` says of it.
    """
    found: list[tuple[QuantizedNetwork, list[SolvedGraph | None]]] = []
    for spare in _SPARE_ADDER_LEVELS:
        hardware = replace(network.candidate.hardware, spare_adder_levels=spare)
        moved = replace(network, candidate=replace(network.candidate, hardware=hardware))
        found.append((moved, solve_at_clocks(moved, clock_periods_ns)))
        first = found[0][1][0]
        if first is None or first.adder_cost > _SOLVED_ONCE_LUT:
            break
    return found


def cut_to_clock(logic: CombLogic, clock_period_ns: float, part: str) -> tuple[int, int] | None:
    """Return cycles and register bits of logic cut to a clock; None where there is nothing to cut."""
    model, _ = _pipelined(logic, clock_period_ns, "codesign_nn", "verilog", check_part(part))
    return None if model.latency is None else (int(model.latency), int(model.reg_bits))


@dataclass(frozen=True, kw_only=True)
class _Map:
    """How bits of one lane connect; None where there is nothing to connect."""

    port_high: int
    port_low: int
    core_high: int | None
    core_low: int | None
    zero_high: int | None = None
    zero_low: int | None = None
    sign_high: int | None = None
    sign_low: int | None = None
    sign_bit: int | None = None


def _input_maps(precisions: Any, formats: Sequence[FixedPoint]) -> tuple[list[_Map], int]:
    """Connect the lanes of `x` to the core's packed inputs; lanes the network ignores stay open."""
    maps, position, end = [], 0, 0
    for i, ((signed, integer, fraction), fmt) in enumerate(zip(precisions, formats, strict=True)):
        first, end = end, end + fmt.bits
        width = int(signed) + int(integer) + int(fraction)
        if width <= 0:
            continue
        low = first + fmt.fraction_bits - int(fraction)
        if fraction > fmt.fraction_bits or low + width > end:
            raise ExportError(
                f"input {i}: alkaid wants bits that {fmt.to_hls()} does not have; report this"
            )
        maps.append(
            _Map(
                port_high=low + width - 1,
                port_low=low,
                core_high=position + width - 1,
                core_low=position,
            )
        )
        position += width
    return maps, position


def _output_maps(precisions: Any, formats: Sequence[FixedPoint]) -> tuple[list[_Map], int]:
    """Connect the core's packed outputs to the lanes of `y`, with zeros below and sign bits above."""
    maps, position, end = [], 0, 0
    for i, ((signed, integer, fraction), fmt) in enumerate(zip(precisions, formats, strict=True)):
        width = int(signed) + int(integer) + int(fraction)
        first, end = end, end + fmt.bits
        if width <= 0:
            maps.append(
                _Map(
                    port_high=0,
                    port_low=0,
                    core_high=None,
                    core_low=None,
                    zero_high=end - 1,
                    zero_low=first,
                )
            )
            continue
        low = first + fmt.fraction_bits - int(fraction)
        high = low + width - 1
        if low < first or high >= end:
            raise ExportError(
                f"output {i}: alkaid gives bits that {fmt.to_hls()} does not have; report this"
            )
        maps.append(
            _Map(
                port_high=high,
                port_low=low,
                core_high=position + width - 1,
                core_low=position,
                zero_high=low - 1 if low > first else None,
                zero_low=first if low > first else None,
                sign_high=end - 1 if high < end - 1 else None,
                sign_low=high + 1 if high < end - 1 else None,
                sign_bit=position + width - 1 if signed else None,
            )
        )
        position += width
    return maps, position


def _core_sources(model: RTLModel, name: str, suffix: str) -> dict[str, bytes]:
    """Return alkaid's HDL files, every module renamed so that two networks fit into one design."""
    with tempfile.TemporaryDirectory(prefix="codesign-rtl-") as folder:
        model._path = Path(folder)  # the model is built without a place to write to
        model.write()
        texts = {
            path.stem: path.read_bytes()
            for path in sorted((Path(folder) / "src").rglob(f"*.{suffix}"))
            if not path.stem.endswith("_wrapper")  # our own top replaces it
        }
    own = name.encode() + b"_"
    shared = {module for text in texts.values() for module in _MODULE.findall(text)}
    renamed = sorted(module for module in shared if not module.startswith(own))
    words = re.compile(rb"\b(%s)\b" % b"|".join(map(re.escape, renamed))) if renamed else None
    files = {}
    for stem, text in texts.items():
        new = f"{name}_{stem}" if stem.encode() in renamed else stem
        files[f"src/{new}.{suffix}"] = text if words is None else words.sub(rb"%s\1" % own, text)
    return files


def _compilation_order(name: str) -> Any:
    """Return a sort key: shared blocks, tables, stages, core."""

    def key(path: str) -> tuple[int, int, str]:
        stem = Path(path).stem
        stage = re.match(rf"^{name}_logic(\d+)$", stem)
        if stage:
            return (2, int(stage.group(1)), stem)
        return (3 if stem == f"{name}_core" else 1 if stem.endswith("_tables") else 0, 0, stem)

    return key


def pack_hex(words: NDArray[np.int64], bits: int) -> str:
    """Return one line of hexadecimal per vector: its lanes packed, lane 0 least significant."""
    mask = (1 << bits) - 1
    digits = -(-words.shape[1] * bits // 4)
    lines = []
    for vector in words.tolist():
        packed = 0
        for lane, word in enumerate(vector):
            packed |= (word & mask) << (lane * bits)
        lines.append(f"{packed:0{digits}x}\n")
    return "".join(lines)


def unpack_hex(text: str, n_lanes: int, fmt: FixedPoint) -> NDArray[np.int64]:
    """Read what `pack_hex` wrote: int64[n, n_lanes] words of `fmt`.

    Raises:
        ExportError: a line is no hexadecimal number of that many lanes.
    """
    mask, rows = (1 << fmt.bits) - 1, []
    for line in text.split():
        try:
            packed = int(line, 16)
        except ValueError as error:
            raise ExportError(
                f"{line[:40]!r} is no hexadecimal vector; a simulator wrote unknown bits"
            ) from error
        rows.append([(packed >> (lane * fmt.bits)) & mask for lane in range(n_lanes)])
    words = np.array(rows, dtype=np.int64).reshape(len(rows), n_lanes)
    return np.where(words > fmt.max_word, words - (1 << fmt.bits), words) if fmt.signed else words


def export_rtl(
    network: QuantizedNetwork,
    *,
    name: str = "codesign_nn",
    flavor: str = "verilog",
    logic: CombLogic | None = None,
    golden: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> RtlExport:
    """Export a network as RTL, pipelined to its candidate's clock.

    Args:
        network: the network.
        name: top module, a lower-case identifier.
        flavor: "verilog" or "vhdl".
        logic: what `trace_network(network)` returned, to trace only once.
        golden: input and output words for the testbench.

    Raises:
        ExportError: no output depends on an input, or a name is not allowed.
    """
    check_identifier(name)
    if flavor not in FLAVORS:
        raise ExportError(f"RTL flavor {flavor!r} unknown; choose from {', '.join(FLAVORS)}")
    suffix, interval_cycles = FLAVORS[flavor], network.candidate.hardware.interval_cycles
    if interval_cycles > 1:
        from codesign.export.shared_rtl import export_shared_rtl

        if flavor != "verilog":
            raise ExportError(
                f"particles take turns in Verilog only, not in {flavor}; choose verilog, or an interval of 1"
            )
        return export_shared_rtl(network, interval_cycles, name=name, golden=golden)
    logic = trace_network(network) if logic is None else logic
    stage = build_stage(
        logic, network, name, flavor, *([fmt] * n for fmt, n in _ports(network).values())
    )
    context = {**stage.context, **constraints(network, flavor), "interval_cycles": 1}
    files = project_files(stage.files, context)
    if golden is not None:
        vectors_in, vectors_out = golden
        files["sim/golden_in.hex"] = pack_hex(vectors_in, network.input_format.bits).encode()
        files["sim/golden_out.hex"] = pack_hex(vectors_out, network.output_format.bits).encode()
        files[f"sim/{name}_tb.{suffix}"] = render(
            f"rtl/testbench.{suffix}.j2", n_vectors=len(vectors_in), **context
        )
    export = RtlExport(
        name=name,
        flavor=flavor,
        plan=ProjectPlan(files={}),
        sources=context["sources"],
        latency_cycles=stage.latency_cycles,
        interval_cycles=1,
        adder_cost=adder_cost(logic),
        register_bits=stage.register_bits,
        adder_levels=float(logic.latency[1]),
        levels_per_cycle=stage.levels_per_cycle,
    )
    return finished(export, network, files)


def _ports(network: QuantizedNetwork) -> dict[str, tuple[FixedPoint, int]]:
    """Return format and number of the lanes of x and y."""
    sites = typed(network)
    return {
        "x": (network.input_format, sites.input.size),
        "y": (network.output_format, sites.output.size),
    }


def finished(export: RtlExport, network: QuantizedNetwork, files: dict[str, bytes]) -> RtlExport:
    """Return an export with its files, and among them what is known of it."""
    facts = (json.dumps(_facts(export, network), indent=2) + "\n").encode()
    return replace(export, plan=ProjectPlan(files={**files, "rtl.json": facts}))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Logic cut to the clock, as HDL modules with ports of raw words.

    Attributes:
        files: HDL sources by path.
        context: what templates are rendered with.
        latency_cycles, register_bits, levels_per_cycle: as in `RtlExport`.
    """

    files: dict[str, bytes]
    context: dict[str, Any]
    latency_cycles: int
    register_bits: int
    levels_per_cycle: float


def build_stage(
    logic: CombLogic,
    network: QuantizedNetwork,
    name: str,
    flavor: str,
    source_formats: Sequence[FixedPoint],
    result_formats: Sequence[FixedPoint],
) -> Stage:
    """Cut logic to the clock of a network and wrap it in a module of raw words.

    Args:
        logic: what it computes.
        network: of which it is all, or a part.
        name: of the module.
        flavor: as in `export_rtl`.
        source_formats, result_formats: of each lane of `x` and `y`.

    Raises:
        ExportError: no output depends on an input.
    """
    hardware, suffix = network.candidate.hardware, FLAVORS[flavor]
    part = check_part(hardware.part)
    model, cutoff = _pipelined(logic, hardware.clock_period_ns, name, flavor, part)
    (source,), (sink,) = model.fsm.inp_signals, model.fsm.out_signals
    inputs, core_in_bits = _input_maps(source.precisions, source_formats)
    outputs, core_out_bits = _output_maps(sink.precisions, result_formats)
    latency = model.latency
    if latency is None or core_out_bits == 0:
        raise ExportError(
            "alkaid could not pipeline this network (constant outputs); train the network again"
        )
    files = _core_sources(model, name, suffix)
    context = {
        "name": name,
        "digest": network.digest,
        "n_in": len(source.precisions),
        "n_out": len(sink.precisions),
        "in_width": sum(fmt.bits for fmt in source_formats),
        "out_width": sum(fmt.bits for fmt in result_formats),
        "in_bits": source_formats[0].bits,
        "out_bits": result_formats[0].bits,
        "in_format": source_formats[0].to_hls(),
        "out_format": result_formats[0].to_hls(),
        "in_lanes": _said(source_formats),
        "out_lanes": _said(result_formats),
        "out_signed": result_formats[0].signed,
        "core_in_bits": core_in_bits,
        "core_out_bits": core_out_bits,
        "inputs": inputs,
        "outputs": outputs,
        "latency_cycles": int(latency),
        "sources": (*sorted(files, key=_compilation_order(name)), f"src/{name}.{suffix}"),
    }
    files[f"src/{name}.{suffix}"] = render(f"rtl/top.{suffix}.j2", **context)
    return Stage(
        files=files,
        context=context,
        latency_cycles=int(latency),
        register_bits=int(model.reg_bits),
        levels_per_cycle=cutoff,
    )


def _said(formats: Sequence[FixedPoint]) -> str:
    """Say how many lanes there are of which format."""
    runs = [(fmt, len(list(lanes))) for fmt, lanes in groupby(formats)]
    return ", then ".join(f"{n} lanes of {fmt.bits} bits, {fmt.to_hls()}" for fmt, n in runs)


def constraints(network: QuantizedNetwork, flavor: str) -> dict[str, Any]:
    """Return what constraints and scripts are rendered with, beside the ports."""
    hardware = network.candidate.hardware
    return {
        "flavor": flavor,
        "part": check_part(hardware.part),
        "clock_period_ns": hardware.clock_period_ns,
        "clock_uncertainty_ns": round(DEFAULT_UNCERTAINTY["alkaid"] * hardware.clock_period_ns, 4),
        "io_delay_ns": round(0.1 * hardware.clock_period_ns, 4),
    }


def project_files(sources: dict[str, bytes], context: dict[str, Any]) -> dict[str, bytes]:
    """Return HDL sources with the constraints, scripts and harness of the top module that `context` describes.

    Beside it stands `<name>_valid`, the same module with valid and reset, which scripts build when asked.
    """
    name, suffix = context["name"], FLAVORS[context["flavor"]]
    valid = f"src/{name}_valid.{suffix}"
    context = {**context, "valid_source": valid}
    files = {
        **sources,
        valid: render(f"rtl/valid.{suffix}.j2", **context),
        f"{name}.xdc": render("rtl/constraints.xdc.j2", **context),
        f"{name}.sdc": render("rtl/constraints.sdc.j2", **context),
        "vivado.tcl": render("rtl/vivado.tcl.j2", **context),
        "quartus.tcl": render("rtl/quartus.tcl.j2", **context),
    }
    if context["flavor"] == "verilog":
        files["sim/harness.cc"] = render("rtl/harness.cc.j2", **context)
    return files


def _facts(export: RtlExport, network: QuantizedNetwork) -> dict[str, Any]:
    def port(fmt: FixedPoint, lanes: int) -> dict[str, Any]:
        return {
            "lanes": lanes,
            "bits": fmt.bits,
            "fraction_bits": fmt.fraction_bits,
            "is_signed": fmt.signed,
        }

    ports = _ports(network)
    return {
        "schema": 1,
        "top": export.name,
        "flavor": export.flavor,
        "network_digest": network.digest,
        "part": network.candidate.hardware.part,
        "clock_period_ns": network.candidate.hardware.clock_period_ns,
        "latency_cycles": export.latency_cycles,
        "interval_cycles": export.interval_cycles,
        "predicted": {"lut": export.adder_cost, "ff": export.register_bits},
        "adder_levels": export.adder_levels,
        "levels_per_cycle": export.levels_per_cycle,
        **{name: port(fmt, lanes) for name, (fmt, lanes) in ports.items()},
        "sources": list(export.sources),
    }
