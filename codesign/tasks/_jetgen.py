"""Simulate jets with Pythia 8 and compute the 16 high-level features of the LHC jet-tagging task.

Quark, gluon, W, Z and top jets of about 1 TeV in pp collisions at 13 TeV, in four steps:

1. hard process with undecayed, on-shell W, Z and t (Les Houches events), as the public set had them
   from a matrix-element generator;
2. shower, hadronisation, isotropic decays (Pythia), anti-kT jets with R = 0.8 (SlowJet/fjcore);
3. a toy detector: smeared tracks, coarse electromagnetic and hadronic cells;
4. mMDT grooming (z_cut 0.1) and energy-correlation features of the groomed constituents.

Needs the optional package pythia8mc (an extra, `generate`), which is licensed under the
GPL, version 2 or later; codesign itself does not contain or link it.  Same seed, same bits, whatever
the number of processes.

Sources: C, D: arXiv:1305.0007, 1409.6298; M, N: arXiv:1609.07483; mMDT: arXiv:1307.0007; the task:
arXiv:1804.06913.
"""

import functools
import multiprocessing
import os
import queue
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import ConfigError, DataError, ToolError
from codesign.files import replacing
from codesign.processes import WARDEN, start_worker
from codesign.tasks.openml import CLASSES, FEATURES
from codesign.tools import require_module

#: Pythia settings of the hard process of each class.
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "g": ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on"),
    "q": ("HardQCD:qq2qq = on", "HardQCD:qqbar2qqbarNew = on", "HardQCD:gg2qqbar = on"),
    "w": ("WeakDoubleBoson:ffbar2WW = on",),
    "z": ("WeakDoubleBoson:ffbar2gmZgmZ = on", "WeakZ0:gmZmode = 2"),
    "t": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
}
_HADRONIC_DECAYS = (
    "24:onMode = off",
    "24:onIfAny = 1 2 3 4 5",
    "23:onMode = off",
    "23:onIfAny = 1 2 3 4 5",
)
_ON_SHELL = (
    "24:doForceWidth = on",
    "24:mWidth = 0.02",
    "24:mMin = 80",
    "24:mMax = 81",
    "23:doForceWidth = on",
    "23:mWidth = 0.02",
    "23:mMin = 90.7",
    "23:mMax = 91.7",
    "6:doForceWidth = on",
    "6:mWidth = 0.02",
    "6:mMin = 172",
    "6:mMax = 174",
)
_ENERGY_GEV = 13_000.0
_HARD_PT_GEV = 1_000.0
_HARD_PT_WINDOW = 0.01  # relative half-width
_SHOWER_SCALE_GEV = 91.188
_JET_PT_RANGE_GEV = (800.0, 1600.0)
_JET_ETA_MAX = 2.5
_MATCHING_DISTANCE = 0.6
_Z_CUT = 0.1
_ECAL_CELL, _HCAL_CELL = 0.0175, 0.022
_TRACK_PT_MAX_GEV = 220.0
_PT_MIN_GEV = 0.3
#: Offsets between the seeds of one run; part of the file format "same seed, same bits".
_CLASS_SEED_STRIDE, _RUN_SEED_STRIDE, _HARD_SEED_OFFSET, _DETECTOR_SEED_OFFSET = 100, 1000, 50, 77
#: Pythia accepts seeds up to this.
_PYTHIA_SEED_MAX = 900_000_000


@dataclass(frozen=True, kw_only=True)
class JetSettings:
    """What to generate.

    Args:
        n_per_class: jets of each of the five classes.
        seed: of everything.
        n_constituents: particles kept for each jet, by decreasing pT; 0 keeps none.
        with_multiple_interactions: simulate multiple parton interactions.
        with_detector: apply the toy detector.
    """

    n_per_class: int
    seed: int
    n_constituents: int = 0
    with_multiple_interactions: bool = True
    with_detector: bool = True

    def __post_init__(self) -> None:
        """Validate the numbers."""
        if self.n_per_class < 1:
            raise ConfigError(f"n_per_class is {self.n_per_class}; expected at least 1")
        seed_max = _PYTHIA_SEED_MAX // _RUN_SEED_STRIDE - 1
        if not 0 <= self.seed <= seed_max:
            raise ConfigError(
                f"seed is {self.seed}; expected 0 to {seed_max} (Pythia's limit); choose another"
            )
        if not 0 <= self.n_constituents <= 1000:
            raise ConfigError(f"n_constituents is {self.n_constituents}; expected 0 to 1000")


@dataclass(frozen=True, kw_only=True)
class Jets:
    """Generated jets.

    Args:
        x: float32 [n, 16] in the order of FEATURES.
        y: int8 [n], indices into CLASSES.
        kinematics: float32 [n, 4]: pT (GeV), eta, phi, mass (GeV).
        constituents: float32 [n, n_constituents, 4]: pT (GeV), eta and phi relative to the jet axis, and
            kind + 1 (0 pad, 1 track, 2 electromagnetic, 3 hadronic).
    """

    x: np.ndarray
    y: np.ndarray
    kinematics: np.ndarray
    constituents: np.ndarray


def generate(
    settings: JetSettings,
    *,
    n_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Jets:
    """Simulate the jets of all classes and shuffle them.

    Args:
        settings: what to generate.
        n_processes: worker processes; at most one for each class is used.
        progress: called with the number of jets newly done.

    Raises:
        ConfigError: a number is out of range.
        ToolError: pythia8mc is not installed.
        ToolError: Pythia cannot be initialised.
    """
    require_module("pythia8mc")
    if n_processes < 1:
        raise ConfigError(f"processes is {n_processes}; expected at least 1")
    report = progress or (lambda n_done: None)
    with _standard_output_to_error():
        if n_processes == 1:
            parts = [_generate_class(label, settings, report) for label in CLASSES]
        else:
            parts = _generate_in_processes(settings, min(n_processes, len(CLASSES)), report)
    x, kinematics, constituents = (np.concatenate([part[i] for part in parts]) for i in range(3))
    y = np.repeat(np.arange(len(CLASSES), dtype=np.int8), settings.n_per_class)
    order = np.random.default_rng(settings.seed).permutation(len(y))
    return Jets(
        x=x[order], y=y[order], kinematics=kinematics[order], constituents=constituents[order]
    )


def write_jets(jets: Jets, path: Path) -> None:
    """Write jets as an archive that the task `npz` reads; replaces `path` only once complete."""
    arrays: dict[str, Any] = {
        "x": jets.x,
        "y": jets.y,
        "feature_names": np.array(FEATURES),
        "class_names": np.array(CLASSES),
        "kinematics": jets.kinematics,
    }
    if jets.constituents.shape[1]:
        arrays["constituents"] = jets.constituents
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


# ------------------------------------------------------------------------------- processes


_progress_queue: Any = None


def _start_worker(shared: Any) -> None:
    global _progress_queue
    start_worker()
    _progress_queue = shared


def _generate_class_reporting(label: str, settings: JetSettings) -> tuple[np.ndarray, ...]:
    return _generate_class(label, settings, _progress_queue.put)


def _generate_in_processes(
    settings: JetSettings, n_processes: int, report: Callable[[int], None]
) -> list[tuple[np.ndarray, ...]]:
    context = multiprocessing.get_context("spawn")  # Pythia's state must not be forked
    WARDEN.start()  # the manager is no worker, and would outlive a killed parent
    with context.Manager() as manager:
        shared = manager.Queue()
        with ProcessPoolExecutor(
            n_processes, mp_context=context, initializer=_start_worker, initargs=(shared,)
        ) as pool:
            futures = [pool.submit(_generate_class_reporting, label, settings) for label in CLASSES]
            while not all(future.done() for future in futures):
                try:
                    report(shared.get(timeout=0.2))
                except queue.Empty:
                    continue
            while not shared.empty():
                report(shared.get())
            return [future.result() for future in futures]


@contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """Send what C++ prints on standard output to standard error; results alone belong on the former."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


# ------------------------------------------------------------------------------- simulation


def _pythia(settings: tuple[str, ...]) -> Any:
    """Return an initialised Pythia.

    Raises:
        ToolError: it refuses the settings.
    """
    pythia = require_module("pythia8mc").Pythia("", False)
    for line in ("Print:quiet = on", *settings):
        pythia.readString(line)
    if not pythia.init():
        raise ToolError("Pythia 8 could not be initialised; reinstall pythia8mc")
    return pythia


def _write_hard_events(label: str, n_events: int, seed: int, path: Path) -> None:
    """Write Les Houches events with undecayed, on-shell resonances."""
    pythia = _pythia(
        (
            "Beams:idA = 2212",
            "Beams:idB = 2212",
            f"Beams:eCM = {_ENERGY_GEV}",
            "Random:setSeed = on",
            f"Random:seed = {seed}",
            f"PhaseSpace:pTHatMin = {_HARD_PT_GEV * (1 - _HARD_PT_WINDOW)}",
            f"PhaseSpace:pTHatMax = {_HARD_PT_GEV * (1 + _HARD_PT_WINDOW)}",
            "PartonLevel:all = off",
            "ProcessLevel:resonanceDecays = off",
            *_ON_SHELL,
            *PROCESSES[label],
        )
    )
    beam_gev = _ENERGY_GEV / 2
    with path.open("w", encoding="utf-8") as file:
        file.write('<LesHouchesEvents version="1.0">\n<header>\n</header>\n<init>\n')
        file.write(
            f"2212 2212 {beam_gev:.6e} {beam_gev:.6e} 0 0 10042 10042 3 1\n1.0 0.1 1.0 1\n</init>\n"
        )
        n_written = 0
        while n_written < n_events:
            if not pythia.next():
                continue
            particles = [pythia.process[i] for i in range(3, pythia.process.size())]
            file.write(f"<event>\n{len(particles)} 1 1.0 {_SHOWER_SCALE_GEV:.6e} 7.8e-3 1.0e-1\n")
            for i, p in enumerate(particles):
                role = "-1 0 0" if i < 2 else "1 1 2"
                file.write(
                    f"{p.id()} {role} {p.col()} {p.acol()} {p.px():.10e} {p.py():.10e} {p.pz():.10e} "
                    f"{p.e():.10e} {p.m():.10e} 0. 9.\n"
                )
            file.write("</event>\n")
            n_written += 1
        file.write("</LesHouchesEvents>\n")


def _generate_class(
    label: str, settings: JetSettings, report: Callable[[int], None]
) -> tuple[np.ndarray, ...]:
    """Return features, kinematics and constituents of `n_per_class` jets of one class."""
    seed = settings.seed * _RUN_SEED_STRIDE + CLASSES.index(label) * _CLASS_SEED_STRIDE + 1
    n = settings.n_per_class
    features = np.zeros((n, len(FEATURES)), np.float32)
    kinematics = np.zeros((n, 4), np.float32)
    constituents = np.zeros((n, settings.n_constituents, 4), np.float32)
    with tempfile.TemporaryDirectory(prefix="codesign_jets_") as folder:
        events = Path(folder) / f"{label}.lhe"
        # About two jets pass for each event; 0.75 leaves room for those that do not.
        _write_hard_events(label, int(0.75 * n) + 50, seed + _HARD_SEED_OFFSET, events)
        n_done = 0
        for i, (x, axis, particles) in enumerate(_jets(events, seed, settings)):
            features[i] = x
            kinematics[i] = axis
            constituents[i, : len(particles)] = particles
            report(1)
            n_done = i + 1
            if n_done == n:
                return features, kinematics, constituents
    raise DataError(
        f"only {n_done} of {n} jets of class {label!r} passed the selection with seed {settings.seed}; use another seed"
    )


def _jets(
    events: Path, seed: int, settings: JetSettings
) -> Iterator[tuple[list[float], tuple[float, ...], np.ndarray]]:
    """Yield features, (pT, eta, phi, mass) and leading constituents of every selected jet."""
    pythia8 = require_module("pythia8mc")
    pythia = _pythia(
        (
            "Beams:frameType = 4",
            f"Beams:LHEF = {events}",
            "Random:setSeed = on",
            f"Random:seed = {seed}",
            f"PartonLevel:MPI = {'on' if settings.with_multiple_interactions else 'off'}",
            "TimeShower:QEDshowerByOther = off",
            *_HADRONIC_DECAYS,
        )
    )
    generator = np.random.default_rng(seed + _DETECTOR_SEED_OFFSET)
    # anti-kT, R 0.8, pT above 200 GeV, |eta| below 4, visible particles, true masses, fjcore
    anti_kt = pythia8.SlowJet(-1, 0.8, 200.0, 4.0, 2, 2, None, True, True)
    cambridge_aachen = pythia8.SlowJet(0, 20.0, 0.0, 100.0, 1, 2, None, False, True)  # step by step
    scratch = pythia8.Event()
    scratch.init("sub", pythia.particleData)
    while True:
        if not pythia.next():
            if pythia.infoPython().atEndOfFile():
                return
            continue
        event = pythia.event
        anti_kt.analyze(event)
        partons = [(pythia.process[i].eta(), pythia.process[i].phi()) for i in (5, 6)]
        for k in range(min(anti_kt.sizeJet(), 2)):
            axis = anti_kt.p(k)
            if abs(axis.eta()) > _JET_ETA_MAX:
                continue
            if (
                min(_distance(axis.eta(), axis.phi(), *parton) for parton in partons)
                > _MATCHING_DISTANCE
            ):
                continue
            momenta, kind = _visible(event, list(anti_kt.constituents(k)), settings, generator)
            jet = momenta.sum(0)
            jet_pt = np.hypot(jet[0], jet[1])
            if not (_JET_PT_RANGE_GEV[0] < jet_pt < _JET_PT_RANGE_GEV[1]) or len(momenta) < 3:
                continue
            scratch.reset()
            # SlowJet takes the rapidity from the stored mass.
            masses = np.sqrt(np.maximum(momenta[:, 3] ** 2 - (momenta[:, :3] ** 2).sum(1), 0))
            for momentum, mass in zip(momenta.tolist(), masses.tolist(), strict=True):
                scratch.append(22, 1, 0, 0, *momentum, mass)
            groomed = _groom(cambridge_aachen, scratch, momenta)
            yield (
                _jet_features(momenta, groomed, jet_pt),
                (
                    jet_pt,
                    np.arcsinh(jet[2] / jet_pt),
                    np.arctan2(jet[1], jet[0]),
                    float(np.sqrt(max(jet[3] ** 2 - (jet[:3] ** 2).sum(), 0))),
                ),
                _leading(momenta, kind, jet, jet_pt, settings.n_constituents),
            )


def _distance(eta: float, phi: float, other_eta: float, other_phi: float) -> float:
    return float(np.hypot(eta - other_eta, (phi - other_phi + np.pi) % (2 * np.pi) - np.pi))


def _visible(
    event: Any, indices: list[int], settings: JetSettings, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return four-momenta [n, 4] (px, py, pz, E in GeV) and kinds [n] of a jet's particles as seen."""
    particles = [event[i] for i in indices]
    momenta = np.array([(p.px(), p.py(), p.pz(), p.e()) for p in particles])
    identity = np.abs(np.array([p.id() for p in particles]))
    charge = np.array([p.charge() for p in particles])
    if settings.with_detector:
        return _detect(momenta, identity, charge, generator)
    return momenta, np.where(charge != 0, 0, np.where(identity == 22, 1, 2))


def _detect(
    momenta: np.ndarray, identity: np.ndarray, charge: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A toy detector: smeared tracks (kind 0), electromagnetic (1) and hadronic (2) cells."""
    px, py, pz, energy = momenta.T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    phi = np.arctan2(py, px)
    is_electromagnetic = (identity == 22) | (identity == 11)
    is_track = (charge != 0) & (identity != 11) & (pt < _TRACK_PT_MAX_GEV)
    is_hadronic = ~is_electromagnetic & ~is_track
    smearing = 1 + generator.normal(size=is_track.sum()) * np.hypot(0.01, 1e-4 * pt[is_track])
    pts, etas, phis = [pt[is_track] * smearing], [eta[is_track]], [phi[is_track]]
    kinds = [np.zeros(is_track.sum(), int)]
    for selected, cell, stochastic, constant, kind in (
        (is_electromagnetic, _ECAL_CELL, 0.07, 0.007, 1),
        (is_hadronic, _HCAL_CELL, 1.0, 0.05, 2),
    ):
        if not selected.any():
            continue
        i_eta = np.floor(eta[selected] / cell).astype(int)
        i_phi = np.floor(phi[selected] / cell).astype(int)
        _, inverse = np.unique(i_eta.astype(np.int64) * 100_000 + i_phi, return_inverse=True)
        deposit = np.bincount(inverse, weights=energy[selected])
        resolution = np.hypot(stochastic / np.sqrt(np.maximum(deposit, 1e-3)), constant)
        deposit = deposit * np.maximum(0, 1 + generator.normal(size=len(deposit)) * resolution)
        n_in_cell = np.bincount(inverse)
        cell_eta = (np.bincount(inverse, weights=i_eta) / n_in_cell + 0.5) * cell
        cell_phi = (np.bincount(inverse, weights=i_phi) / n_in_cell + 0.5) * cell
        pts.append(deposit / np.cosh(cell_eta))
        etas.append(cell_eta)
        phis.append(cell_phi)
        kinds.append(np.full(len(deposit), kind))
    seen = np.concatenate(pts) > _PT_MIN_GEV
    pt, eta, phi, kinds_seen = (np.concatenate(v)[seen] for v in (pts, etas, phis, kinds))
    seen_momenta = np.stack(
        [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], 1
    )
    return seen_momenta, kinds_seen


def _groom(clustering: Any, event: Any, momenta: np.ndarray) -> np.ndarray:
    """Recluster with Cambridge/Aachen, undo until a splitting passes mMDT; return the indices kept."""
    n = len(momenta)
    if n == 1:
        return np.array([0])
    clustering.setup(event)
    slots, n_nodes, n_left = list(range(n)), n, n
    children: dict[int, tuple[int, int]] = {}
    while n_left > 1:
        i, j = clustering.iNext(), clustering.jNext()
        if j < 0:  # a beam step; cannot happen with R = 20
            return np.arange(n)
        if i < j:
            i, j = j, i
        children[n_nodes] = (slots[i], slots[j])
        slots[j] = n_nodes
        n_nodes += 1
        slots[i] = slots[n_left - 1]
        n_left -= 1
        clustering.doStep()
    nodes = np.empty((n_nodes, 4))
    nodes[:n] = momenta
    for parent in range(n, n_nodes):
        a, b = children[parent]
        nodes[parent] = nodes[a] + nodes[b]
    pt = np.hypot(nodes[:, 0], nodes[:, 1])
    root = n_nodes - 1
    while root >= n:
        a, b = children[root]
        if min(pt[a], pt[b]) > _Z_CUT * (pt[a] + pt[b]):
            break
        root = a if pt[a] >= pt[b] else b
    kept, open_nodes = [], [root]
    while open_nodes:
        inner = open_nodes.pop()
        if inner < n:
            kept.append(inner)
        else:
            open_nodes.extend(children[inner])
    return np.array(kept)


# ------------------------------------------------------------------------------- features


def _jet_features(momenta: np.ndarray, groomed: np.ndarray, jet_pt: float) -> list[float]:
    """Return the 16 features in the order of FEATURES."""
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    energy, pz = momenta[:, 3], momenta[:, 2]
    rapidity = 0.5 * np.log((energy + pz) / np.maximum(energy - pz, 1e-12))
    phi = np.arctan2(momenta[:, 1], momenta[:, 0])
    total = momenta[groomed].sum(0)
    mass_squared = total[3] ** 2 - (total[:3] ** 2).sum()
    features = correlation_features(pt[groomed], rapidity[groomed], phi[groomed])
    z = pt / jet_pt
    features["zlogz"] = float(np.sum(z * np.log(z)))
    features["mass_mmdt"] = float(np.sqrt(max(mass_squared, 0)))
    features["multiplicity"] = float(len(momenta))
    return [features[name] for name in FEATURES]


@functools.cache
def _pairs(n: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Pairs j < k by descending j, so that the pairs beyond any i are a prefix; and its length."""
    rows, columns = np.triu_indices(n, 1)
    order = np.argsort(-rows, kind="stable")
    counts = [(n - 1 - i) * (n - 2 - i) // 2 for i in range(n)]
    return rows[order].astype(np.intp), columns[order].astype(np.intp), counts


def correlation_features(pt: np.ndarray, rapidity: np.ndarray, phi: np.ndarray) -> dict[str, float]:
    """Return C1, C2, D2, M2 and N2 of a jet's groomed constituents.

    With z the pT shares and theta the distances in (rapidity, phi), at angular exponent b:
    e2(b) = sum_{i<j} z_i z_j theta_ij^b; e3(b) the same over triples with the product of all three
    distances; v e3(b) with the product of the v smallest ones.
    C1 = e2, C2 = e3 / e2^2, D2 = e3 / e2^3, M2 = 1e3 / e2, N2 = 2e3 / e2^2.

    Args:
        pt, rapidity, phi: float [n], n at least 1.
    """
    n = len(pt)
    z = pt / pt.sum()
    features = {name: 0.0 for name in FEATURES[1:14]}
    features["c1_b0_mmdt"] = 0.5 * (1 - np.dot(z, z))
    if n < 2:
        return features
    d_rapidity = rapidity[:, None] - rapidity[None, :]
    d_phi = (phi[:, None] - phi[None, :] + np.pi) % (2 * np.pi) - np.pi
    theta_squared = d_rapidity * d_rapidity + d_phi * d_phi
    theta = np.sqrt(theta_squared)
    e2 = {1: 0.5 * z @ theta @ z, 2: 0.5 * z @ theta_squared @ z}
    features["c1_b1_mmdt"], features["c1_b2_mmdt"] = e2[1], e2[2]
    if n < 3:
        return features
    root = np.sqrt(z)
    e3 = {}
    for exponent, distance in ((1, theta), (2, theta_squared)):
        weighted = distance * root[:, None] * root[None, :]
        e3[exponent] = np.einsum("ij,ij->", weighted @ weighted, weighted) / 6.0
    one_e3, two_e3 = _ordered_correlations(z, theta)
    if e2[1] > 0:
        features["c2_b1_mmdt"] = e3[1] / e2[1] ** 2
        features["d2_b1_mmdt"] = e3[1] / e2[1] ** 3
        features["m2_b1_mmdt"] = one_e3[1] / e2[1]
        features["n2_b1_mmdt"] = two_e3[1] / e2[1] ** 2
        features["d2_a1_b1_mmdt"] = features["d2_b1_mmdt"]
    if e2[2] > 0:
        features["c2_b2_mmdt"] = e3[2] / e2[2] ** 2
        features["d2_b2_mmdt"] = e3[2] / e2[2] ** 3
        features["m2_b2_mmdt"] = one_e3[2] / e2[2]
        features["n2_b2_mmdt"] = two_e3[2] / e2[2] ** 2
        features["d2_a1_b2_mmdt"] = e3[1] / e2[2] ** 1.5
    return features


def _ordered_correlations(
    z: np.ndarray, theta: np.ndarray
) -> tuple[dict[int, float], dict[int, float]]:
    """Return 1e3 and 2e3 for b = 1, 2: sums over triples with the smallest and two smallest distances."""
    first, second, counts = _pairs(len(z))
    distances = np.ascontiguousarray(theta, dtype=np.float32)
    shares = z.astype(np.float32)
    pair_distances = distances[first, second]
    pair_shares = shares[first] * shares[second]
    one_e3, two_e3 = {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}
    for i in range(len(z) - 2):
        m = counts[i]
        a = distances[i].take(first[:m])
        b = distances[i].take(second[:m])
        c, weights = pair_distances[:m], pair_shares[:m]
        low, high = np.minimum(a, b), np.maximum(a, b)
        smallest, largest = np.minimum(low, c), np.maximum(high, c)
        # low becomes smallest * middle, with middle = a + b + c - smallest - largest
        low += high
        low += c
        low -= smallest
        low -= largest
        low *= smallest
        one_e3[1] += z[i] * np.dot(weights, smallest)
        two_e3[1] += z[i] * np.dot(weights, low)
        smallest *= smallest
        low *= low
        one_e3[2] += z[i] * np.dot(weights, smallest)
        two_e3[2] += z[i] * np.dot(weights, low)
    return one_e3, two_e3


def _leading(
    momenta: np.ndarray, kind: np.ndarray, jet: np.ndarray, jet_pt: float, n_constituents: int
) -> np.ndarray:
    """Return the leading constituents [at most n_constituents, 4], as in `Jets.constituents`."""
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    order = np.argsort(-pt)[:n_constituents]
    phi = np.arctan2(momenta[order, 1], momenta[order, 0])
    leading = np.zeros((len(order), 4), np.float32)
    leading[:, 0] = pt[order]
    leading[:, 1] = np.arcsinh(momenta[order, 2] / pt[order]) - np.arcsinh(jet[2] / jet_pt)
    leading[:, 2] = (phi - np.arctan2(jet[1], jet[0]) + np.pi) % (2 * np.pi) - np.pi
    leading[:, 3] = kind[order] + 1
    return leading
