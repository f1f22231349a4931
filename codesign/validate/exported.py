"""Every implementation that an export holds, and the first layer in which one of them goes wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from codesign.errors import DesignError
from codesign.export.bundle import ExportResult
from codesign.export.emulator import build_emulator
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx
from codesign.export.rtl import export_rtl, trace_network
from codesign.ir import Candidate, Network, QuantizedNetwork
from codesign.validate.compare import first_differing_node
from codesign.validate.forms import (
    adder_graph_form,
    c_simulation_form,
    emulator_form,
    needs,
    needs_package,
    onnx_form,
    qonnx_form,
    reference_form,
    torch_form,
    verilog_form,
    vhdl_form,
)
from codesign.validate.implementation import Form, Implementation, InProcess, Words

#: Names of the forms that an export can hold, beside `hls4ml_<back end>`.
FORMS: Final = ("torch", "onnxruntime", "qonnx", "emulator", "alkaid", "rtl", "rtl_vhdl")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One implementation of an exported network.

    Attributes:
        implementation: not loaded; it is made from the files of the export.
        note: what the reader of a certificate should know.
        fresh: exports another network in this one form alone, in place of the export's; None for a form
            that shows its own layers.
    """

    implementation: Implementation
    note: str
    fresh: Callable[[QuantizedNetwork], Mapping[str, Any]] | None


def implementations(result: ExportResult, work: Path, *, optimize: bool) -> dict[str, Exported]:
    """Return, by name, every implementation that an export holds.

    Args:
        result: the export.
        work: where C++ and RTL are built.
        optimize: optimise the compiled forms: slower to build, faster to run.
    """
    network = result.network
    found: dict[str, Exported] = {}

    def add(
        name: str,
        open: Callable[[], Form],
        note: str,
        fresh: Callable[[QuantizedNetwork], Mapping[str, Any]] | None,
    ) -> None:
        found[name] = Exported(
            implementation=InProcess(open, expected_digest=network.digest), note=note, fresh=fresh
        )

    add("torch", lambda: torch_form(network), "float64 on real values", lambda part: {})
    if (onnx := result.onnx) is not None:
        pairs = ", ".join(onnx.without_pair)
        add(
            "onnxruntime",
            lambda: onnx_form(onnx.content, f"{result.folder}/onnx/model.onnx"),
            f"{onnx.arithmetic}, standard operators"
            + (f"; no QuantizeLinear pair at {pairs}" if pairs else ""),
            lambda part: {"onnx": export_onnx(part)},
        )
    if (qonnx := result.qonnx) is not None:
        add(
            "qonnx",
            lambda: qonnx_form(qonnx, network),
            qonnx.arithmetic,
            lambda part: {"qonnx": export_qonnx(part)},
        )
    for backend in result.projects:
        add(
            f"hls4ml_{backend}",
            lambda backend=backend: c_simulation_form(  # type: ignore[misc]
                result.projects[backend],
                network,
                work / f"hls4ml_{backend}" / result.projects[backend].plan.digest,
                optimize=optimize,
            ),
            "C simulation compiled with g++",
            lambda part, backend=backend: {  # type: ignore[misc]
                "projects": {backend: export_hls4ml(part, backend=backend)}
            },
        )

    def emulator() -> Form:
        needs("g++", "make")
        return emulator_form(build_emulator(result.plan.below("emulator").write(work / "emulator")))

    add("emulator", emulator, "C++ library, its own test passed", None)
    if "vhdl" in result.rtl:  # else particles take turns

        def adder_graph() -> Form:
            needs_package("alkaid")
            logic = result.read_logic() if result.read_logic else trace_network(network)
            return adder_graph_form(logic, network)

        add(
            "alkaid",
            adder_graph,
            "adder graph, interpreted",
            lambda part: {
                "rtl": {"verilog": export_rtl(part)},
                "read_logic": lambda: trace_network(part),
            },
        )
    if "verilog" in result.rtl:
        interval = result.rtl["verilog"].interval_cycles
        add(
            "rtl",
            lambda: verilog_form(
                result.rtl["verilog"],
                work / "rtl" / result.rtl["verilog"].plan.digest,
                optimize=optimize,
            ),
            f"an event every {interval} cycles" if interval > 1 else "",
            # parts of a network whose particles take turns are none
            None if interval > 1 else lambda part: {"rtl": {"verilog": export_rtl(part)}},
        )
    if "vhdl" in result.rtl:
        add(
            "rtl_vhdl",
            lambda: vhdl_form(result.rtl["vhdl"], network, work / "vhdl"),
            "simulated with GHDL",
            lambda part: {
                "rtl": {"vhdl": export_rtl(part, flavor="vhdl", golden=_no_golden(part))}
            },
        )
    return found


def _no_golden(network: QuantizedNetwork) -> tuple[Words, Words]:
    """One vector, for a testbench whose vectors are written anew for every run."""
    described = reference_form(network).description
    return (
        np.zeros((1, described.n_inputs), dtype=np.int64),
        np.zeros((1, described.n_outputs), dtype=np.int64),
    )


def first_differing_layer(
    name: str, result: ExportResult, words: Words, exported: Exported | None = None
) -> str:
    """Find the first layer whose words differ from the reference, for a vector that is known to differ.

    An implementation that shows its layers is asked; the others are exported again, cut off after each
    rounding layer in turn.

    Args:
        name: of the implementation.
        result: the export.
        words: int64[n, n_inputs].
        exported: the implementation, loaded; None asks for fresh exports at once.

    Returns:
        The node's name, or a sentence when a fresh export agrees everywhere (then the files were changed).
    """
    network = result.network
    trace = reference_form(network).trace
    assert trace is not None, "the reference shows every node"
    reference = trace(words)
    if exported is not None:
        shown = first_differing_node(reference, exported.implementation.trace(words))
        if shown is not None:
            return shown
    for node in network.network.nodes[1:]:
        if node.name not in network.result:
            continue
        part = prefix_network(network, node.name)
        with tempfile.TemporaryDirectory(prefix="codesign-prefix-") as folder:
            got = _run_fresh(name, result, part, words, Path(folder))
        if not np.array_equal(got, reference[node.name]):
            return node.name
    return "none in a fresh export: the files on disk are not what the exporter writes"


def _run_fresh(
    name: str, result: ExportResult, part: QuantizedNetwork, words: Words, work: Path
) -> Words:
    """Export `part` anew in one form and run it."""
    fresh = implementations(result, work, optimize=False)[name].fresh
    if fresh is None:
        raise DesignError(f"no fresh run of {name!r}; its own trace names the layer")
    anew = replace(result, network=part, **fresh(part))
    with implementations(anew, work, optimize=False)[name].implementation as implementation:
        return implementation.run(words)


def prefix_network(network: QuantizedNetwork, last: str) -> QuantizedNetwork:
    """Return the network that ends at node `last`, which must round.

    Raises:
        DesignError: `last` does not round.
    """
    if last not in network.result:
        raise DesignError(
            f"{last} does not round, so no network can end there; choose an activation"
        )
    needed = {last}
    for node in reversed(network.network.nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    needed.add(network.network.nodes[0].name)
    nodes = tuple(node for node in network.network.nodes if node.name in needed)
    graph = Network(nodes=nodes)
    hardware = network.candidate.hardware

    def kept(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in mapping.items() if name in needed}

    return QuantizedNetwork(
        candidate=Candidate(
            network=graph,
            hardware=replace(
                hardware, strategy=kept(hardware.strategy), reuse_factor=kept(hardware.reuse_factor)
            ),
        ),
        network=graph,
        result=kept(network.result),
        constants=kept(network.constants),
    )
