"""The certificate of an export: every form of a network computes the same words, bit for bit.

The integer reference (`codesign.layers.run_words`) is compared with torch, ONNX Runtime, QONNX,
hls4ml's C++, alkaid's adder graph, the emulator library and the Verilated RTL, on the test set, on
random in-range vectors and on corner vectors.  All of them are read from the export folder.  One
different word is an error.  What could not run (a missing tool) is recorded as "not run" with its reason,
never as passed.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import codesign
from codesign.errors import DesignError, MismatchError, StudyError, ToolError
from codesign.export.bundle import (
    MANIFEST,
    ExportResult,
    load_export,
    read_manifest,
    read_plan,
)
from codesign.export.emulator import build_emulator
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_onnx, run_qonnx
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.export.templates import render
from codesign.files import write_atomically
from codesign.ir import Candidate, FixedPoint, Network, QuantizedNetwork
from codesign.layers import LAYERS, infer_formats, run_torch, run_words
from codesign.layers._activation import Activation
from codesign.layers._table import TableActivation
from codesign.processes import n_worker_processes
from codesign.tools import require_tool
from codesign.validate.rtl_emulation import build_emulation, run_vhdl
from codesign.validate.vectors import corner_words, random_words
from codesign.validate.verilator import verilator_environment

SCHEMA = 1
Words = NDArray[np.int64]
Runner = Callable[[Words], Words]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One implementation against the integer reference.

    Attributes:
        name: of the implementation.
        status: "equal" or "not run"; a difference raises instead.
        vectors: how many vectors were compared, by set ("test", "random", "corner").
        mismatches: how many vectors differed: 0 where it ran, None where it did not.
        note: why it did not run, or what else was checked.
    """

    name: str
    status: str
    vectors: Mapping[str, int]
    mismatches: int | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was compared, on what, and what the data did to the fixed-point grid.

    Attributes:
        network_digest, candidate_digest: what is certified.
        plan_digest: digest of every file of the export folder but the certificate.
        comparisons: one per implementation.
        latency_cycles: clock edges through the RTL, measured in emulation; None when it did not run.
        reported_latency_cycles: what the RTL export says.
        input_audit: ranges of the inputs, and how many events saturate.
        layer_audit: per node what rounding and saturation did.
        versions: of the libraries that took part.
        seed: of the random vectors.
        sha256: digest of every file of the folder.
    """

    network_digest: str
    candidate_digest: str
    plan_digest: str
    comparisons: tuple[Comparison, ...]
    latency_cycles: int | None
    reported_latency_cycles: int | None
    input_audit: Mapping[str, Any]
    layer_audit: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    seed: int
    sha256: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return {"schema": SCHEMA, "verdict": self.verdict, **asdict(self)}

    @property
    def verdict(self) -> str:
        """One sentence."""
        ran = [c.name for c in self.comparisons if c.status == "equal"]
        missing = [c.name for c in self.comparisons if c.status != "equal"]
        sentence = f"bit-exact: reference = {' = '.join(ran)}" if ran else "nothing was compared"
        return sentence + (f"; not run: {', '.join(missing)}" if missing else "")


def certify(
    export: ExportResult | Path,
    *,
    test_words: Words,
    inputs: NDArray[np.floating] | None = None,
    n_random: int = 1000,
    seed: int = 1,
    work_folder: Path | None = None,
    optimize: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Certificate:
    """Compare every form of an exported network and write `certificate.json` and `certificate.html`.

    Args:
        export: what `export_candidate` returned, or its folder.
        test_words: int64[n, n_inputs], the test set as input words.
        inputs: float[n, n_inputs], the full data set as scaled real values, for the range audit; the
            test words when None.
        n_random: random vectors.
        seed: of the random vectors.
        work_folder: where C++ and RTL are built; a temporary folder when None.
        optimize: optimise the compiled forms: slower to build, faster to run; pays from some 100,000 vectors.
        progress: called with one line before each comparison.

    Raises:
        MismatchError: one word differs; names comparison, vector, output, words and first layer.
        ToolError: a tool that is present failed.
    """
    result = load_export(export if isinstance(export, Path) else export.folder)
    network = result.network
    sets = {
        "test": np.asarray(test_words, dtype=np.int64),
        "random": random_words(network, n_random, seed),
        "corner": corner_words(network),
    }
    expected = {name: _reference(network, words) for name, words in sets.items()}
    comparisons: list[Comparison] = []
    latency: int | None = None
    with (
        tempfile.TemporaryDirectory(prefix="codesign-certify-") as temporary,
        # the builds run in compilers, so threads are enough to use every core
        concurrent.futures.ThreadPoolExecutor(max_workers=n_worker_processes()) as pool,
    ):
        work = Path(temporary) if work_folder is None else work_folder
        under_way = {
            name: pool.submit(build)
            for name, build in _implementations(result, work, optimize).items()
        }
        try:
            for name, future in under_way.items():
                if progress is not None:
                    progress(f"comparing {name}")
                comparison, measured = _compare_all(name, future.result, result, sets, expected)
                comparisons.append(comparison)
                latency = measured if measured is not None else latency
        finally:
            for future in under_way.values():
                future.cancel()
    reported = result.rtl["verilog"].latency_cycles if "verilog" in result.rtl else None
    if latency is not None and latency != reported:
        raise MismatchError(
            f"RTL latency: the export says {reported} cycles, emulation measured {latency}; export again"
        )
    certificate = Certificate(
        network_digest=network.digest,
        candidate_digest=network.candidate.digest,
        plan_digest=result.plan.digest,
        comparisons=tuple(comparisons),
        latency_cycles=latency,
        reported_latency_cycles=reported,
        input_audit=audit_inputs(network, inputs, sets["test"]),
        layer_audit=tuple(audit_layers(network, _words_of(network, inputs, sets["test"]))),
        versions=_versions(),
        seed=seed,
        sha256=result.plan.file_digests(),
    )
    _write(result.folder, certificate, result.name)
    return certificate


def _compare_all(
    name: str,
    get: Callable[[], _Check],
    result: ExportResult,
    sets: Mapping[str, Words],
    expected: Mapping[str, Words],
) -> tuple[Comparison, int | None]:
    """Compare one implementation on every set; return also the latency in cycles where it is measured."""
    try:
        check = get()
    except _NotAvailable as reason:
        return (
            Comparison(name=name, status="not run", vectors={}, mismatches=None, note=str(reason)),
            None,
        )
    for set_name, words in sets.items():
        _compare(name, set_name, result, words, expected[set_name], check)
    note, latency = check.note, None
    if check.measure_latency is not None:
        latency = check.measure_latency(sets, expected)
        if latency is not None:
            note = f"latency {latency} cycles, measured; one vector per cycle"
    check.close()
    vectors = {set_name: len(words) for set_name, words in sets.items()}
    return Comparison(name=name, status="equal", vectors=vectors, mismatches=0, note=note), latency


def _words_of(
    network: QuantizedNetwork, inputs: NDArray[np.floating] | None, test_words: Words
) -> Words:
    if inputs is None:
        return test_words
    return network.input_format.words_from_values(np.asarray(inputs, dtype=np.float64))


def _reference(network: QuantizedNetwork, words: Words) -> Words:
    output = run_words(network, words)
    assert isinstance(output, np.ndarray), "run_words without trace returns an array"
    return output


def _write(folder: Path, certificate: Certificate, name: str) -> None:
    value = certificate.to_json()
    value["digest"] = _seal(value)
    for file, content in (
        ("certificate.json", (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()),
        ("certificate.html", render("bundle/certificate.html.j2", certificate=value, name=name)),
    ):
        write_atomically(folder / file, content)


def _seal(value: Mapping[str, Any]) -> str:
    """Return the digest of a certificate's content (its own digest left out)."""
    body = {key: item for key, item in value.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    import importlib.metadata

    packages = ("numpy", "torch", "onnx", "onnxruntime", "qonnx", "hls4ml", "alkaid", "verilator")
    found = {"codesign": codesign.__version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


# ---- implementations ----------------------------------------------------------------------------
class _NotAvailable(Exception):
    """A comparison cannot run here; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class _Check:
    """An implementation, ready to run.

    Attributes:
        run: words in, words out.
        trace: words of every node it can show, for the first differing layer; None when it cannot.
        note: what the reader should know.
        measure_latency: measures cycles, for clocked implementations.
        close: ends it.
    """

    run: Runner
    trace: Callable[[Words], Mapping[str, Words]] | None = None
    note: str = ""
    measure_latency: Callable[[Mapping[str, Words], Mapping[str, Words]], int | None] | None = None
    close: Callable[[], None] = lambda: None


def _needs(*tools: str) -> None:
    for tool in tools:
        try:
            require_tool(tool)
        except ToolError as error:
            raise _NotAvailable(str(error)) from error


def _implementations(
    result: ExportResult, work: Path, optimize: bool
) -> dict[str, Callable[[], _Check]]:
    """Return, by name, a function that makes each implementation ready from the export folder."""
    network = result.network

    def torch() -> _Check:
        bits = max(known.format.bits for known in infer_formats(network).values())
        if bits > 53:
            raise _NotAvailable(
                f"a word has {bits} bits; float64, in which torch computes, holds 53"
            )
        return _Check(run=lambda words: run_torch(network, words), note="float64 on real values")

    def onnxruntime() -> _Check:
        note = f"{result.onnx.arithmetic}, standard operators"
        if result.onnx.without_pair:
            note += (
                f"; no QuantizeLinear pair (over 16 bits) at {', '.join(result.onnx.without_pair)}"
            )
        return _Check(run=lambda words: run_onnx(result.onnx, network, words), note=note)

    def qonnx() -> _Check:
        return _Check(
            run=lambda words: run_qonnx(result.qonnx, network, words), note=result.qonnx.arithmetic
        )

    def alkaid() -> _Check:
        logic = result.logic
        assert logic is not None, "offered only when RTL was exported"
        return _Check(
            run=lambda words: run_trace(logic, network, words), note="adder graph, interpreted"
        )

    def hls4ml(backend: str) -> Callable[[], _Check]:
        def build() -> _Check:
            from codesign.export.backends import BACKENDS

            if not BACKENDS.get(backend).has_c_simulation:
                raise _NotAvailable(f"{backend} projects compile with the vendor's compiler only")
            _needs("g++")
            simulation = build_c_simulation(
                result.projects[backend], network, work / f"hls4ml_{backend}", optimize=optimize
            )
            return _Check(run=simulation.run, note="C simulation compiled with g++")

        return build

    def emulator() -> _Check:
        _needs("g++", "make")
        from codesign.validate.devices.emulator import EmulatorLibrary

        folder = result.plan.below("emulator").write(work / "emulator")
        library = EmulatorLibrary(build_emulator(folder))
        n_outputs = library.description.n_outputs

        def trace(words: Words) -> Mapping[str, Words]:
            table = library.call(
                np.ascontiguousarray(words), sum(width for _, width in library.nodes), trace=True
            )
            ends = np.cumsum([width for _, width in library.nodes])[:-1]
            parts = np.split(table, ends, axis=1)
            return {name: part for (name, _), part in zip(library.nodes, parts, strict=True)}

        return _Check(
            run=lambda words: library.call(np.ascontiguousarray(words), n_outputs, trace=False),
            trace=trace,
            note="C++ library, its own test passed",
        )

    def rtl() -> _Check:
        try:
            verilator_environment()
        except ToolError as error:
            raise _NotAvailable(str(error)) from error
        emulation = build_emulation(result.rtl["verilog"], network, work / "rtl", optimize=optimize)

        def measure(sets: Mapping[str, Words], expected: Mapping[str, Words]) -> int | None:
            pair = _differing_pair(sets, expected)
            return None if pair is None else emulation.measure_latency_cycles(pair)

        return _Check(run=emulation.run, measure_latency=measure, close=emulation.close)

    def vhdl() -> _Check:
        _needs("ghdl")
        export = result.rtl["vhdl"]
        return _Check(
            run=lambda words: run_vhdl(export, network, words, work / "vhdl"),
            note="simulated with GHDL",
        )

    found: dict[str, Callable[[], _Check]] = {
        "torch": torch,
        "onnxruntime": onnxruntime,
        "qonnx": qonnx,
    }
    found |= {f"hls4ml_{backend}": hls4ml(backend) for backend in result.projects}
    found["emulator"] = emulator
    if "verilog" in result.rtl:
        found |= {"alkaid": alkaid, "rtl": rtl}
    if "vhdl" in result.rtl:
        found["rtl_vhdl"] = vhdl
    return found


def _differing_pair(sets: Mapping[str, Words], expected: Mapping[str, Words]) -> Words | None:
    """Return two input vectors whose outputs differ, int64[2, n_inputs]."""
    words = np.concatenate(list(sets.values()))
    outputs = np.concatenate(list(expected.values()))
    different = np.flatnonzero((outputs != outputs[0]).any(axis=1))
    return None if different.size == 0 else words[[0, different[0]]]


# ---- comparing --------------------------------------------------------------------------------
def _compare(
    name: str, set_name: str, result: ExportResult, words: Words, expected: Words, check: _Check
) -> None:
    if len(words) == 0:
        return
    got = check.run(words)
    if got.shape != expected.shape:
        raise MismatchError(
            f"{name}: {set_name} vectors gave shape {got.shape}, expected {expected.shape}; export again"
        )
    different = got != expected
    if not different.any():
        return
    vectors = np.flatnonzero(different.any(axis=1))
    i = int(vectors[0])
    j = int(np.flatnonzero(different[i])[0])
    where = first_differing_layer(name, result, words[i : i + 1], check)
    raise MismatchError(
        f"{name} differs from the integer reference in {len(vectors)} of {len(words)} {set_name} vectors;"
        f" first: vector {i}, output {j}, expected word {int(expected[i, j])}, got {int(got[i, j])};"
        f" first differing layer: {where}"
    )


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
        weight_words=kept(network.weight_words),
        weight_format=kept(network.weight_format),
        bias_words=kept(network.bias_words),
        bias_format=kept(network.bias_format),
    )


def first_differing_layer(
    name: str, result: ExportResult, words: Words, check: _Check | None = None
) -> str:
    """Find the first layer whose words differ from the reference, for a vector that is known to differ.

    An implementation that shows its layers is asked; the others are exported again, cut off after each
    rounding layer in turn.

    Returns:
        The node's name, or a sentence when a fresh export agrees everywhere (then the files were changed).
    """
    network = result.network
    reference = run_words(network, words, trace=True)
    assert isinstance(reference, dict), "run_words with trace returns a mapping"
    if check is not None and check.trace is not None:
        traced = check.trace(words)
        for node in network.network.nodes:
            if node.name in traced and not np.array_equal(traced[node.name], reference[node.name]):
                return node.name
    for node in network.network.nodes[1:]:
        if node.name not in network.result:
            continue
        part = prefix_network(network, node.name)
        with tempfile.TemporaryDirectory(prefix="codesign-prefix-") as folder:
            got = _run_fresh(name, part, words, Path(folder))
        if not np.array_equal(got, reference[node.name]):
            return node.name
    return "none in a fresh export: the files on disk are not what the exporter writes"


def _run_fresh(name: str, network: QuantizedNetwork, words: Words, folder: Path) -> Words:
    """Export `network` anew in one form and run it."""
    if name == "torch":
        return run_torch(network, words)
    if name == "onnxruntime":
        return run_onnx(export_onnx(network), network, words)
    if name == "qonnx":
        return run_qonnx(export_qonnx(network), network, words)
    if name == "alkaid":
        return run_trace(trace_network(network), network, words)
    if name.startswith("hls4ml_"):
        project = export_hls4ml(network, backend=name.removeprefix("hls4ml_"))
        return build_c_simulation(project, network, folder / "hls", optimize=False).run(words)
    if name == "rtl":
        emulation = build_emulation(export_rtl(network), network, folder / "rtl", optimize=False)
        output = emulation.run(words)
        emulation.close()
        return output
    if name == "rtl_vhdl":
        golden = (words, np.zeros_like(_reference(network, words)))
        return run_vhdl(
            export_rtl(network, flavor="vhdl", golden=golden), network, words, folder / "rtl"
        )
    raise DesignError(f"no fresh run of {name!r}; its own trace names the layer")


# ---- audits ---------------------------------------------------------------------------------
def audit_inputs(
    network: QuantizedNetwork, inputs: NDArray[np.floating] | None, test_words: Words
) -> dict[str, Any]:
    """Check the input range against data: how many events saturate (and would wrap without saturation).

    Args:
        network: the network.
        inputs: float[n, n_inputs] scaled real values, or None to use `test_words`.
        test_words: int64[n, n_inputs].
    """
    fmt = network.input_format
    if inputs is None:
        values, source = fmt.values_from_words(test_words), "test words (already inside the format)"
    else:
        values, source = np.asarray(inputs, dtype=np.float64), "full data set"
    words = np.floor(np.ldexp(values, fmt.fraction_bits))
    outside = (words < fmt.min_word) | (words > fmt.max_word)
    return {
        "source": source,
        "n_events": len(values),
        "format": fmt.to_hls(),
        "min_value": fmt.min_value,
        "max_value": fmt.max_value,
        "n_events_saturated": int(outside.any(axis=1).sum()),
        "n_values_saturated": int(outside.sum()),
        "features": [
            {
                "index": i,
                "min": float(values[:, i].min()) if len(values) else 0.0,
                "max": float(values[:, i].max()) if len(values) else 0.0,
                "n_saturated": int(outside[:, i].sum()),
            }
            for i in range(values.shape[1])
        ],
    }


def audit_layers(network: QuantizedNetwork, words: Words) -> list[dict[str, Any]]:
    """Say for each node what rounding and saturation did to the data, and how much of its range is used.

    Args:
        network: the network.
        words: int64[n, n_inputs].
    """
    ranges = infer_formats(network)
    values = run_words(network, words, trace=True)
    assert isinstance(values, dict), "run_words with trace returns a mapping"
    rows: list[dict[str, Any]] = []
    for node in network.network.nodes:
        known, got = ranges[node.name], values[node.name]
        fmt = known.format
        row: dict[str, Any] = {
            "node": node.name,
            "layer": node.layer,
            "format": fmt.to_hls(),
            "possible_min_word": int(known.low.min()),
            "possible_max_word": int(known.high.max()),
            "seen_min_word": int(got.min()) if got.size else 0,
            "seen_max_word": int(got.max()) if got.size else 0,
            "rounds": node.name in network.result,
            "saturated_fraction": None,
            "rounded_fraction": None,
        }
        layer = LAYERS.get(node.layer)
        if isinstance(layer, Activation) and node.inputs:
            source = ranges[node.inputs[0]].format
            row |= _rounding(layer, values[node.inputs[0]], source, fmt, got)
        rows.append(row)
    return rows


def _rounding(
    layer: Activation, words: Words, source: FixedPoint, result: FixedPoint, got: Words
) -> dict[str, float]:
    """Return which share of values saturated, and which lost bits to rounding."""
    if isinstance(
        layer, TableActivation
    ):  # the index saturates and rounds; the table absorbs the rest
        result = layer.index_format
        got, signed = result.cast_words(words, source), True
        unlimited, exact = words, words
        fraction = source.fraction_bits
    else:
        fraction = max(
            source.fraction_bits + 3, result.fraction_bits
        )  # 3: slopes of 2**-3 stay exact
        signed = True
        wide = FixedPoint(bits=62, integer_bits=62 - fraction, signed=signed)
        unlimited = exact = layer.apply_words(words, source, wide)
    shift = fraction - result.fraction_bits
    floored = unlimited >> shift if shift >= 0 else unlimited << -shift
    lost = exact - (floored << shift if shift >= 0 else floored >> -shift)
    saturated = floored != got
    n = max(got.size, 1)
    return {
        "saturated_fraction": float(saturated.sum() / n),
        "rounded_fraction": float(((lost != 0) & ~saturated).sum() / n),
    }


# ---- checking again -----------------------------------------------------------------------------
def recheck(folder: Path, *, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Check an export folder against its certificate: every file, its digests, and the cheap comparisons.

    Args:
        folder: an export folder, or a study folder (every certified candidate in it is checked).
        progress: called with one line before each step.

    Returns:
        Per export folder: verdict, how many files were checked and how many vectors compared again.

    Raises:
        StudyError: there is no certificate, or it or any file was changed, added or removed.
        MismatchError: a form no longer computes the certified words.
    """
    if not (folder / MANIFEST).exists():
        found = sorted(path.parent for path in folder.glob("candidates/*/*/certificate.json"))
        if not found:
            raise StudyError(
                f"{folder} holds no export with a certificate; export and validate first"
            )
        return {
            path.relative_to(folder).as_posix(): recheck(path, progress=progress)[path.name]
            for path in found
        }
    if progress is not None:
        progress(f"checking {folder}")
    certificate = _read_certificate(folder)
    read_manifest(folder)
    plan = read_plan(folder)
    _check_digests(folder, plan, certificate)
    result = load_export(folder)
    if result.network.digest != certificate["network_digest"]:
        raise StudyError(
            f"{folder}: weights.npz holds network {result.network.digest}, the certificate speaks of"
            f" {certificate['network_digest']}; export again"
        )
    with np.load(folder / "golden" / "vectors.npz", allow_pickle=False) as archive:
        words, expected = archive["input_words"], archive["output_words"]
    if not np.array_equal(_reference(result.network, words), expected):
        raise MismatchError(
            f"{folder}: the golden output words are not what the reference computes; export again"
        )
    with tempfile.TemporaryDirectory(prefix="codesign-recheck-") as work:
        checks = _implementations(result, Path(work), optimize=False)
        for name in ("torch", "onnxruntime", "qonnx", "alkaid"):
            if name not in checks:
                continue
            try:
                check = checks[name]()
            except _NotAvailable:
                continue
            _compare(name, "golden", result, words, expected, check)
    return {
        folder.name: {
            "verdict": certificate["verdict"],
            "n_files": len(plan.files),
            "n_vectors": len(words),
            "network_digest": result.network.digest,
        }
    }


def _read_certificate(folder: Path) -> dict[str, Any]:
    path = folder / "certificate.json"
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); validate the export first") from error
    if not isinstance(certificate, dict) or certificate.get("schema") != SCHEMA:
        raise StudyError(f"{path} is of another schema; this version reads schema {SCHEMA}")
    if certificate.get("digest") != _seal(certificate):
        raise StudyError(f"{path} was changed after it was written; validate the export again")
    return certificate


def _check_digests(folder: Path, plan: ProjectPlan, certificate: Mapping[str, Any]) -> None:
    now, then = plan.file_digests(), dict(certificate["sha256"])
    changed = sorted(name for name in now.keys() & then.keys() if now[name] != then[name])
    added, removed = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    for what, names in (("changed", changed), ("added", added), ("removed", removed)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise StudyError(
                f"{folder}: {names[0]}{more} {what} since the certificate; export and validate again"
            )
    if plan.digest != certificate["plan_digest"]:
        raise StudyError(f"{folder}: file modes changed since the certificate; export again")
