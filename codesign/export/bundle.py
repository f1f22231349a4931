"""Everything a firmware engineer needs for one candidate, in one folder.

    candidate.json  weights.npz  input_scaling.json  outputs.json  README.md  manifest.json
    onnx/model.onnx  onnx/model_qonnx.onnx
    hls4ml_<backend>/            one hls4ml project per back end
    rtl/verilog/ rtl/vhdl/       sources in src/, constraints, scripts, testbench
    alkaid_hls/                  the same adder graph as HLS C++
    emulator/                    versioned C++ shared library
    golden/                      input and output words, as text and npz

The folder is one plan: deterministic, written whole or not at all.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ExportError, StudyError
from codesign.export.alkaid_hls import export_alkaid_hls
from codesign.export.emulator import emulator_files, emulator_prefix
from codesign.export.hls4ml import HlsProject, export_hls4ml
from codesign.export.onnx import OPSET, OnnxExport, export_onnx, export_qonnx
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import RtlExport, export_rtl, trace_network
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words, typed

if TYPE_CHECKING:
    from alkaid.types import CombLogic

MANIFEST = "manifest.json"
#: The traced adder graph, which RTL and its interpreter are made of.
LOGIC = "rtl/logic.json.gz"
SCHEMA = 1
#: Files that others add to an export: the certificate, and what building its emulator or RTL leaves.
_NOT_IN_PLAN = re.compile(
    r"certificate\.(json|html)|emulator/((cms/)?\w+\.so|test_\w+)|rtl/verilog/sim/(objects/.*|lib\w+\.so)"
)
#: Vectors in the text files and testbenches; the npz file holds all.
N_TESTBENCH = 1000


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was exported.

    Attributes:
        folder: where it lies.
        network: the network.
        name: of the firmware.
        emulator_version: N of `<name>_v<N>`.
        plan: every file of the folder but the certificate.
        onnx, qonnx: the two ONNX flavours; None where a sum is wider than any of ONNX' types.
        projects: hls4ml project per back end.
        rtl: "verilog" and "vhdl", empty when RTL was not asked for.
        read_logic: reads the traced adder graph, which takes alkaid; None without RTL, where particles take turns, and in exports of older versions.
        skipped: reason per artefact that could not be made.
    """

    folder: Path
    network: QuantizedNetwork
    name: str
    emulator_version: int
    plan: ProjectPlan
    onnx: OnnxExport | None
    qonnx: OnnxExport | None
    projects: Mapping[str, HlsProject]
    rtl: Mapping[str, RtlExport]
    read_logic: Callable[[], CombLogic] | None
    skipped: Mapping[str, str]


def _text(words: NDArray[np.int64]) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in words.tolist()).encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _packed(logic: CombLogic) -> bytes:
    """Return an adder graph as alkaid's own JSON, compressed; tracing it again takes minutes where it is large."""
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        path = Path(folder) / "logic.json"
        logic.save(path)
        return gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)


def _unpacked(content: bytes, folder: Path) -> CombLogic:
    from alkaid.types import CombLogic

    try:
        return CombLogic.from_dict(json.loads(gzip.decompress(content)))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{folder}/{LOGIC} cannot be read ({error}); export again") from error


def export_candidate(
    network: QuantizedNetwork,
    folder: Path,
    *,
    scaling: Mapping[str, Any],
    vectors: NDArray[np.int64],
    backends: Sequence[str] = ("vitis",),
    with_rtl: bool = True,
    progress: Callable[[str], None] | None = None,
    study: str = "",
    name: str = "codesign_nn",
    emulator_version: int = 1,
    onnx_opset: int = OPSET,
    heads: Sequence[Mapping[str, Any]] = (),
    integer_ports: Callable[[int], Mapping[str, Any] | None] | None = None,
) -> ExportResult:
    """Export a network in every form, into one folder.

    A back end that cannot realise the candidate exactly is left out with its reason in `skipped`; when
    that leaves none of the asked ones, it is an error.

    Args:
        network: the quantized network.
        folder: replaced as a whole.
        scaling: the input scaling that the firmware must apply, JSON-ready (e.g. `InputScaling.to_json()`).
        vectors: int64[n, n_inputs] input words for golden vectors and testbenches (the test set).
        backends: hls4ml back ends.
        with_rtl: also write RTL through alkaid.
        progress: called with one line before each step.
        study: name of the study, for metadata.
        name: of the firmware; a lower-case identifier.
        emulator_version: N of `<name>_v<N>`, which modules, functions, libraries and namespaces carry.
        onnx_opset: operator set of both ONNX files.
        heads: what the outputs are called and mean (`Target.statement`), for `outputs.json`.
        integer_ports: says how whole raw numbers become words of so many fraction bits, where they do
            (`InputScaling.integer_ports`).

    Raises:
        ExportError: nothing could be exported, or a name is not allowed.
    """
    top = emulator_prefix(name, emulator_version)

    def say(line: str) -> None:
        if progress is not None:
            progress(line)

    expected = run_words(network, vectors)
    assert isinstance(expected, np.ndarray), "run_words without trace returns an array"
    golden = (np.asarray(vectors[:N_TESTBENCH], dtype=np.int64), expected[:N_TESTBENCH])
    skipped: dict[str, str] = {}
    say("ONNX and QONNX")
    onnx, qonnx = None, None
    try:
        onnx = export_onnx(network, study=study, scaling=scaling, opset=onnx_opset)
        qonnx = export_qonnx(network, study=study, scaling=scaling, opset=onnx_opset)
    except ExportError as error:  # integers of the other forms hold wider sums
        skipped["onnx"] = str(error)
    plan = ProjectPlan(
        files={
            "candidate.json": _json(network.candidate.to_json()),
            "weights.npz": network.to_bytes(),
            "input_scaling.json": _json(
                {"schema": SCHEMA, "scaling": dict(scaling)} | _ports(network, integer_ports)
            ),
            "outputs.json": _json({"schema": SCHEMA, "outputs": _named_outputs(network, heads)}),
            "golden/input_words.txt": _text(golden[0]),
            "golden/output_words.txt": _text(golden[1]),
            "golden/vectors.npz": _npz(
                input_words=np.asarray(vectors, dtype=np.int64), output_words=expected
            ),
        }
    )
    if onnx is not None and qonnx is not None:
        files = {"onnx/model.onnx": onnx.content, "onnx/model_qonnx.onnx": qonnx.content}
        plan = plan.merged(ProjectPlan(files=files))
    projects: dict[str, HlsProject] = {}
    for backend in backends:
        say(f"hls4ml project for {backend}")
        try:
            projects[backend] = export_hls4ml(network, backend=backend, name=top, golden=golden)
        except ExportError as error:
            skipped[f"hls4ml_{backend}"] = str(error)
            continue
        plan = plan.merged(projects[backend].plan, below=f"hls4ml_{backend}")
    if backends and not projects:
        raise ExportError("no hls4ml project could be made: " + "; ".join(skipped.values()))
    rtl: dict[str, RtlExport] = {}
    logic = None
    if with_rtl:
        say("RTL")
        interval = network.candidate.hardware.interval_cycles
        if interval == 1:
            logic = trace_network(network)
            plan = plan.merged(export_alkaid_hls(network, logic, name=top), below="alkaid_hls")
            plan = plan.merged(ProjectPlan(files={LOGIC: _packed(logic)}))
        for flavor in ("verilog", "vhdl") if interval == 1 else ("verilog",):
            rtl[flavor] = export_rtl(network, name=top, flavor=flavor, logic=logic, golden=golden)
            plan = plan.merged(rtl[flavor].plan, below=f"rtl/{flavor}")
        if interval > 1:
            why = f"particles take turns, an event every {interval} cycles: in Verilog only"
            skipped |= dict.fromkeys(("rtl_vhdl", "alkaid_hls"), why)
    say("emulator")
    emulator = emulator_files(network, name=name, version=emulator_version)
    plan = plan.merged(
        ProjectPlan(files={file: text.encode() for file, text in emulator.items()}),
        below="emulator",
    )
    readme = render(
        "bundle/README.md.j2",
        name=top,
        prefix=emulator_prefix(name, emulator_version),
        network=network,
        projects=sorted(projects),
        rtl=rtl.get("verilog"),
        skipped=skipped,
        onnx=onnx,
        study=study,
    )
    plan = plan.merged(ProjectPlan(files={"README.md": readme}))
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "study": study,
        "network_digest": network.digest,
        "candidate_digest": network.candidate.digest,
        "emulator_version": emulator_version,
        "onnx_arithmetic": onnx.arithmetic if onnx else "",
        "onnx_without_pair": list(onnx.without_pair) if onnx else [],
        "backends": sorted(projects),
        "rtl": sorted(rtl),
        "skipped": skipped,
        "plan_digest": plan.digest,
        "sha256": plan.file_digests(),
    }
    plan = plan.merged(ProjectPlan(files={MANIFEST: _json(manifest)}))
    plan.write(folder)
    return ExportResult(
        folder=folder,
        network=network,
        name=name,
        emulator_version=emulator_version,
        plan=plan,
        onnx=onnx,
        qonnx=qonnx,
        projects=projects,
        rtl=rtl,
        read_logic=None if logic is None else lambda: logic,
        skipped=skipped,
    )


def _named_outputs(
    network: QuantizedNetwork, heads: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Say of every output what it is called, and how its word becomes a value."""
    fmt = network.output_format
    named = [
        (head["name"], label, index, head)
        for head in heads
        for index, label in enumerate(head["outputs"])
    ]
    outputs = []
    for place in range(typed(network).output.size):
        entry: dict[str, Any] = {
            "index": place,
            "type": fmt.to_hls(),
            "value": f"word * 2**{-fmt.fraction_bits}",
        }
        if place < len(named):
            name, label, index, head = named[place]
            entry |= {"head": name, "name": label, "kind": head["kind"]}
            if head["scale"]:  # a shift and an addition
                entry |= {"scale": head["scale"][index], "offset": head["offset"][index]}
                entry["value"] += " * scale + offset"
            if head["units"]:
                entry["unit"] = head["units"][index]
        outputs.append(entry)
    return outputs


def _ports(
    network: QuantizedNetwork, integer_ports: Callable[[int], Mapping[str, Any] | None] | None
) -> dict[str, Any]:
    """Say how a real input becomes a word: scale, multiply, round, saturate or wrap."""
    known, fmt = network.input_type, network.input_format
    rounded = {"TRN": "floor({})", "RND": "floor({} + 0.5)", "RND_CONV": "round_half_even({})"}[
        fmt.rounding
    ]
    bring = "clip" if fmt.overflow == "SAT" else "wrap"
    ports: dict[str, Any] = {}
    if known.uniform is not None:
        word = rounded.format(f"scaled * 2**{fmt.fraction_bits}")
        ports["word"] = f"{bring}({word}, {fmt.min_word}, {fmt.max_word})"
    else:  # element by element: its own fraction bits f and range
        fractions = np.broadcast_to(known.element_fraction_bits, known.shape).ravel()
        low, high = (
            (words >> known.trailing_zeros).ravel() for words in (known.min_words, known.max_words)
        )
        word = rounded.format("scaled * 2**f[i]")
        ports["word"] = f"{bring}({word}, low[i], high[i]) * 2**({fmt.fraction_bits} - f[i])"
        ports |= {"f": fractions.tolist(), "low": low.tolist(), "high": high.tolist()}
    whole = None if integer_ports is None or known.uniform is None else integer_ports
    if whole is not None and (formula := whole(fmt.fraction_bits)) is not None:
        ports["from_whole_numbers"] = dict(formula)
    return ports | {
        "input_format": fmt.to_hls(),
        "fraction_bits": fmt.fraction_bits,
        "min_word": fmt.min_word,
        "max_word": fmt.max_word,
        "output_format": network.output_format.to_hls(),
        "output_fraction_bits": network.output_format.fraction_bits,
    }


def read_plan(folder: Path) -> ProjectPlan:
    """Return the files of an export folder, without the certificate and build products.

    Raises:
        ExportError: the folder is missing.
    """
    return ProjectPlan.read(folder, ignore=lambda name: _NOT_IN_PLAN.fullmatch(name) is not None)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an export folder.

    Raises:
        StudyError: the folder is no export, or of another schema.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); export the candidate again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} is of another schema; this version reads schema {SCHEMA}; export again"
        )
    return manifest


def load_export(folder: Path) -> ExportResult:
    """Read an export folder back: everything a certificate compares comes from the disk.

    Raises:
        StudyError: the folder is no export, or of another schema.
        DesignError: the stored network is damaged.
        ExportError: a project in it cannot be read.
    """
    manifest = read_manifest(folder)
    network = QuantizedNetwork.load(folder / "weights.npz")
    name, version = str(manifest["name"]), int(manifest["emulator_version"])
    top = emulator_prefix(name, version)

    def onnx(file: str, flavor: str) -> OnnxExport | None:
        if not manifest["onnx_arithmetic"]:
            return None
        try:
            content = (folder / "onnx" / file).read_bytes()
        except OSError as error:
            raise ExportError(
                f"{folder}/onnx/{file} cannot be read ({error}); export again"
            ) from error
        return OnnxExport(
            flavor=flavor,
            content=content,
            arithmetic=str(manifest["onnx_arithmetic"]),
            without_pair=tuple(manifest["onnx_without_pair"]) if flavor == "standard" else (),
        )

    whole = read_plan(folder)
    rtl = {
        flavor: RtlExport.read(whole.below(f"rtl/{flavor}"), f"{folder}/rtl/{flavor}")
        for flavor in manifest["rtl"]
    }
    projects = {}
    for backend in manifest["backends"]:
        plan = whole.below(f"hls4ml_{backend}")
        projects[backend] = HlsProject(
            backend=backend,
            name=top,
            plan=plan,
            layers=json.loads(plan.files["codesign_layers.json"]),
        )
    return ExportResult(
        folder=folder,
        network=network,
        name=name,
        emulator_version=version,
        plan=whole,
        onnx=onnx("model.onnx", "standard"),
        qonnx=onnx("model_qonnx.onnx", "qonnx"),
        projects=projects,
        rtl=rtl,
        read_logic=(lambda: _unpacked(whole.files[LOGIC], folder))
        if LOGIC in whole.files
        else None,
        skipped=dict(manifest["skipped"]),
    )
