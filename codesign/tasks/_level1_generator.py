"""Simulate what a Level-1 trigger sees of a bunch crossing: MET, 4 electrons, 4 muons and 10 jets.

A look-alike of the public ADC2021 set (arXiv:2107.02157), in hardware integers, in three steps:

1. hard collisions (Pythia 8, 13 TeV, without multiple interactions) of backgrounds and signals; those of
   jets that pass the filter are used eight times, turned and mirrored, with other pile-up and noise;
2. pile-up: Poisson(50) collisions for each crossing, drawn from a pool of inelastic ones, each turned by
   a random number of towers in phi and mirrored in eta by chance.  Crossings without a hard collision
   are the zero-bias background, the most frequent one;
3. a toy Level-1 detector, as array code over all crossings of a batch: electromagnetic and hadronic
   trigger towers of 0.087 x 0.087 that round and saturate, 9 x 9 sliding-window jets, 3 x 3
   electromagnetic clusters with a cut on their hadronic part and on isolation, muons with curvature
   resolution, inefficiency and decays in flight.

Kept are crossings with an electron of 12 GeV or a muon of 8 GeV (the lepton filter); a background event
carries the rate in kHz that it stands for: 40 MHz times collisions per crossing times cross-section over
the inelastic one, over the number simulated.  Collisions of the pool harder than the softest hard slice
are left out, so that nothing is counted twice, and those with a muon of 5 GeV, so that no single one of
them is met again and again.

Needs the optional package pythia8mc (the extra `generate`), licensed under the GPL, version
2 or later; codesign does not contain or link it.  Same seed, same bits.
"""

import io
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError, ToolError
from codesign.files import write_atomically
from codesign.processes import worker_pool
from codesign.tools import require_module

#: Crossings per second, in kHz; every bunch is taken to be filled.
CROSSING_RATE_KHZ = 40_000.0
#: Mean number of inelastic collisions in a crossing.
PILE_UP = 50.0
#: Units of the integers: pT, eta, phi.
UNITS = {"pt": 0.5, "eta": 0.087 / 2, "phi": 2 * np.pi / 144}
#: How many objects of each kind an event holds, in the order of the inputs.
OBJECTS = {"met": 1, "electron": 4, "muon": 4, "jet": 10}
FEATURES = tuple(
    f"{kind}{index + 1 if n > 1 else ''}_{field}"
    for kind, n in OBJECTS.items()
    for index in range(n)
    for field in ("pt", "eta", "phi")
)

_HARD = ("PartonLevel:MPI = off",)
_LEPTONIC = "onIfAny = 11 13 15"
#: Pythia settings of each process; "pile_up" is a crossing without a hard collision.
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "pile_up": (),
    "qcd_30": ("HardQCD:all = on", "PhaseSpace:pTHatMin = 30", "PhaseSpace:pTHatMax = 60"),
    "qcd_60": ("HardQCD:all = on", "PhaseSpace:pTHatMin = 60"),
    "w": ("WeakSingleBoson:ffbar2W = on", "24:onMode = off", f"24:{_LEPTONIC}"),
    "z": (
        "WeakSingleBoson:ffbar2gmZ = on",
        "PhaseSpace:mHatMin = 40",
        "23:onMode = off",
        f"23:{_LEPTONIC}",
    ),
    "top": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "h_tautau": ("HiggsSM:gg2H = on", "25:m0 = 60", "25:onMode = off", "25:onIfMatch = 15 15"),
    "h_4l": (
        "HiggsSM:gg2H = on",
        "25:m0 = 50",
        "25:onMode = off",
        "25:onIfMatch = 23 23",
        "23:mMin = 0.5",
        "23:onMode = off",
        "23:onIfAny = 11 13",
    ),
    "leptoquark": (
        "LeptoQuark:gg2LQLQbar = on",
        "LeptoQuark:qqbar2LQLQbar = on",
        "42:m0 = 80",
        "42:0:products = 5 -15",
    ),
    "charged_higgs": (
        "Higgs:useBSM = on",
        "HiggsBSM:ffbar2H+H- = on",
        "37:m0 = 60",
        "37:onMode = off",
        "37:onIfMatch = 15 16",
    ),
}
SIGNALS = ("h_tautau", "h_4l", "leptoquark", "charged_higgs")
BACKGROUNDS = tuple(name for name in PROCESSES if name not in SIGNALS)
_POOL_PT_HAT_MAX_GEV, _POOL_MUON_PT_MAX_GEV = 30.0, 5.0

_N_ETA, _N_PHI, _TOWER = 68, 72, 0.087  # |eta| < 2.958
_TOWER_PHI = 2 * np.pi / _N_PHI
_ETA_MAX, _FORWARD_ETA_MAX, _MUON_ETA_MAX = _N_ETA / 2 * _TOWER, 5.0, 2.4
_CURLING_PT_GEV = 0.8  # charged particles below do not reach the calorimeter
_MIP_SHARE = 0.4  # of hadrons leave nothing in the electromagnetic layer
_TOWER_LSB_GEV, _TOWER_MAX_GEV = 0.5, 255.5
_JET_SEED_GEV, _JET_PT_MIN_GEV, _ELECTRON_PT_MIN_GEV, _MUON_PT_MIN_GEV = 4.0, 15.0, 5.0, 3.0
_HADRONIC_SHARE_MAX, _ISOLATION_MAX = 0.08, 0.3
_MUON_EFFICIENCY, _CURVATURE_RESOLUTION, _TAIL_SHARE, _TAIL_RESOLUTION = 0.93, 0.15, 0.01, 0.6
_DECAY_LENGTH_M = 1.3  # free path of a pion or kaon in front of the calorimeter
#: mass (GeV) over c tau (m) of charged pions and kaons, and the share of kaons that give a muon.
_DECAYS = {211: (0.1396 / 7.805, 1.0), 321: (0.4937 / 3.712, 0.64)}
_FILTER_ELECTRON_GEV, _FILTER_MUON_GEV = 12.0, 8.0
PT_WORD_MAX = 1023
_BATCH = 256
#: How often a hard collision that passes is used: turned, mirrored and with other pile-up each time.
#: Jets pass the lepton filter once in thirty times, so that another pass costs less than another jet.
_USES = {"qcd_30": 8, "qcd_60": 8}
_ENERGY_GEV = 13_000
_PYTHIA_SEED_MAX = 900_000_000


@dataclass(frozen=True, kw_only=True)
class Level1Settings:
    """What to generate.

    Args:
        n_events: kept events of each process.
        seed: of everything.
        pool_size: inelastic collisions that pile-up is drawn from.
    """

    n_events: Mapping[str, int]
    seed: int
    pool_size: int = 5_000

    def __post_init__(self) -> None:
        """Validate the numbers."""
        unknown = sorted(set(self.n_events) - set(PROCESSES))
        if unknown:
            raise ConfigError(f"unknown processes {unknown}; expected some of {list(PROCESSES)}")
        if any(n < 1 for n in self.n_events.values()):
            raise ConfigError(f"n_events is {dict(self.n_events)}; expected at least 1 of each")
        if not 0 <= self.seed <= _PYTHIA_SEED_MAX // 100 - 1:
            raise ConfigError(
                f"seed is {self.seed}; expected 0 to {_PYTHIA_SEED_MAX // 100 - 1} (Pythia's limit)"
            )
        if self.pool_size < 2 * PILE_UP:
            raise ConfigError(f"pool_size is {self.pool_size}; expected at least {2 * PILE_UP:g}")


@dataclass(frozen=True, kw_only=True)
class Level1Events:
    """Generated events in hardware integers.

    Args:
        x: int16 [n, 57] in the order of FEATURES and the units of UNITS; missing objects are zeros.
        process: int8 [n], indices into `process_names`.
        collision: int32 [n], which hard collision an event is of: keep those of one together in a split.
        rate_khz: float32 [n], the rate that a background event stands for; 0 for signals.
        process_names: the processes.
        cross_section_mb: of each process (of "pile_up": the inelastic one).
        n_simulated: crossings simulated for each process, kept or not.
    """

    x: NDArray[np.int16]
    process: NDArray[np.int8]
    collision: NDArray[np.int32]
    rate_khz: NDArray[np.float32]
    process_names: tuple[str, ...]
    cross_section_mb: tuple[float, ...]
    n_simulated: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Collisions:
    """What collisions leave in the detector: entries of all of them, with the first entry of each.

    Args:
        usable: int64 indices of those to draw from.
        tower_start, towers, deposits: int64 [n + 1]; int64 [m, 2] eta and phi index; float32 [m, 2]
            electromagnetic and hadronic ET (GeV).
        muon_start, muons: int64 [n + 1]; float32 [m, 3] pT (GeV), eta, phi of true muons.
        forward: float32 [n, 2] sum of px, py (GeV) beyond the towers.
    """

    usable: NDArray[np.int64]
    tower_start: NDArray[np.int64]
    towers: NDArray[np.int64]
    deposits: NDArray[np.float32]
    muon_start: NDArray[np.int64]
    muons: NDArray[np.float32]
    forward: NDArray[np.float32]


def generate(
    settings: Level1Settings,
    *,
    n_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Level1Events:
    """Simulate every process of the settings.

    Args:
        settings: what to generate.
        n_processes: worker processes, each with a process of its own at a time.
        progress: called with the number of newly kept events.

    Raises:
        ConfigError: pythia8mc is not installed.
        ToolError: Pythia refuses its settings.
    """
    pythia = _pythia(("SoftQCD:inelastic = on",), settings.seed * 100 + 1)
    pool = _pool(pythia, settings.pool_size, np.random.default_rng([settings.seed, 0]))
    inelastic_mb = pythia.infoPython().sigmaGen()
    names = tuple(name for name in PROCESSES if name in settings.n_events)
    parts: dict[str, _Kept] = {}
    with worker_pool(n_processes) as workers:
        if workers is None:
            for name in names:
                parts[name] = _generate_one(settings, name, pool, inelastic_mb, progress)
        else:
            jobs = {
                workers.submit(_generate_one, settings, n, pool, inelastic_mb): n for n in names
            }
            for job in as_completed(jobs):
                parts[jobs[job]] = job.result()
                if progress is not None:
                    progress(len(parts[jobs[job]].x))
    kept = [parts[name] for name in names]
    process = np.repeat(np.arange(len(names), dtype=np.int8), [len(part.x) for part in kept])
    order = np.random.default_rng([settings.seed, 1]).permutation(len(process))
    rates = [part.rate_khz / len(part.x) for part in kept]
    return Level1Events(
        x=np.concatenate([part.x for part in kept])[order],
        process=process[order],
        collision=np.concatenate([part.collision for part in kept])[order],
        rate_khz=np.array(rates, dtype=np.float32)[process[order]],
        process_names=names,
        cross_section_mb=tuple(part.cross_section_mb for part in kept),
        n_simulated=tuple(part.n_simulated for part in kept),
    )


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """The kept events of one process: see `Level1Events`; the rate is that of all of them together."""

    x: NDArray[np.int16]
    collision: NDArray[np.int32]
    rate_khz: float
    cross_section_mb: float
    n_simulated: int


def _generate_one(
    settings: Level1Settings,
    name: str,
    pool: _Collisions,
    inelastic_mb: float,
    progress: Callable[[int], None] | None = None,
) -> _Kept:
    """Simulate one process until as many events as wanted pass the filter."""
    seed = settings.seed * 100 + 2 + list(PROCESSES).index(name)
    generator = np.random.default_rng([settings.seed, seed])
    hard = None if name == "pile_up" else _pythia((*PROCESSES[name], *_HARD), seed)
    n_wanted, n_tried, n_first = settings.n_events[name], 0, 0
    kept: list[NDArray[np.int16]] = []
    owners: list[NDArray[np.int64]] = []
    while sum(len(part) for part in kept) < n_wanted:
        batch = None if hard is None else _simulate(hard, _BATCH, generator)
        chosen = np.arange(_BATCH)
        for use in range(_USES.get(name, 1)):
            x = _crossings(batch, chosen, pool, generator)
            passing = _passes_filter(x)
            kept.append(x[passing])
            owners.append(n_tried + chosen[passing])
            if use == 0:
                n_first += int(passing.sum())
                chosen = chosen[passing]
            if progress is not None:
                progress(int(passing.sum()))
        n_tried += _BATCH
    section = inelastic_mb if hard is None else hard.infoPython().sigmaGen()
    per_crossing = 1.0 if hard is None else PILE_UP * section / inelastic_mb
    return _Kept(
        x=np.concatenate(kept)[:n_wanted],
        collision=np.concatenate(owners)[:n_wanted].astype(np.int32),
        # the rate of all that pass is shared by those that are given
        rate_khz=0.0 if name in SIGNALS else CROSSING_RATE_KHZ * per_crossing * n_first / n_tried,
        cross_section_mb=section,
        n_simulated=n_tried,
    )


def write_events(events: Level1Events, path: Path, *, score: NDArray[np.float32]) -> None:
    """Write the events, with a teacher's anomaly score of each, as the archive that the task `level1` reads."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        x=events.x,
        process=events.process,
        collision=events.collision,
        teacher_score=score.astype(np.float16),
        rate_khz_of_process=np.array(
            [
                events.rate_khz[events.process == i].max(initial=0.0)
                for i in range(len(events.process_names))
            ],
            dtype=np.float32,
        ),
        process_names=np.array(events.process_names),
        cross_section_mb=np.array(events.cross_section_mb),
        n_simulated=np.array(events.n_simulated),
        feature_names=np.array(FEATURES),
    )
    write_atomically(path, content.getvalue())


def _pythia(settings: tuple[str, ...], seed: int) -> Any:
    pythia8 = require_module("pythia8mc")
    pythia = pythia8.Pythia("", False)
    lines = (
        "Print:quiet = on",
        "Beams:idA = 2212",
        "Beams:idB = 2212",
        f"Beams:eCM = {_ENERGY_GEV}",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
        *settings,
    )
    for line in lines:
        if not pythia.readString(line):
            raise ToolError(f"Pythia does not understand {line!r}; use pythia8mc 8.317.2")
    if not pythia.init():
        raise ToolError("Pythia could not be initialised; use pythia8mc 8.317.2")
    return pythia


def _pool(pythia: Any, n: int, generator: np.random.Generator) -> _Collisions:
    pool = _simulate(pythia, n, generator, pt_hat_max=_POOL_PT_HAT_MAX_GEV)
    owner = np.repeat(np.arange(n), np.diff(pool.muon_start))
    is_hard = np.bincount(owner, pool.muons[:, 0] > _POOL_MUON_PT_MAX_GEV, minlength=n) > 0
    return replace(pool, usable=np.flatnonzero(~is_hard))


def _simulate(
    pythia: Any, n: int, generator: np.random.Generator, *, pt_hat_max: float = np.inf
) -> _Collisions:
    """Run n collisions and let them leave energy in the towers."""
    rows: list[tuple[float, ...]] = []
    starts = [0]
    while len(starts) <= n:
        if not pythia.next() or pythia.infoPython().pTHat() > pt_hat_max:
            continue
        event = pythia.event
        rows += [
            (p.px(), p.py(), p.pz(), p.e(), p.idAbs(), p.charge())
            for p in event
            if p.isFinal() and p.isVisible()
        ]
        starts.append(len(rows))
    return _deposit(np.array(rows, dtype=np.float64), np.array(starts), generator)


def _deposit(
    particles: NDArray[np.float64], starts: NDArray[np.int64], generator: np.random.Generator
) -> _Collisions:
    """Turn particles (px, py, pz, e, |id|, charge) of collisions into tower entries and muons."""
    n = len(starts) - 1
    collision = np.repeat(np.arange(n), np.diff(starts))
    px, py, pz, energy, kind, charge = particles.T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    phi = np.arctan2(py, px) % (2 * np.pi)
    chance = np.zeros(len(pt))
    for identity, (per_metre, share) in _DECAYS.items():
        chance[kind == identity] = per_metre * share * _DECAY_LENGTH_M
    decays = generator.random(len(pt)) * np.maximum(pt, 1e-3) < chance
    momentum_share = np.where(decays, generator.uniform(0.5, 1.0, len(pt)), 1.0)
    is_muon = ((kind == 13) | decays) & (np.abs(eta) < _MUON_ETA_MAX)
    is_muon &= pt * momentum_share > _MUON_PT_MIN_GEV / 2
    muons = np.stack([pt * momentum_share, eta, phi], 1)[is_muon].astype(np.float32)
    reaches = (kind != 13) & ((charge == 0) | (pt > _CURLING_PT_GEV))
    forward = reaches & (np.abs(eta) >= _ETA_MAX) & (np.abs(eta) < _FORWARD_ETA_MAX)
    sums = [np.bincount(collision[forward], v[forward], minlength=n) for v in (px, py)]
    reaches &= np.abs(eta) < _ETA_MAX
    is_electromagnetic = (kind == 22) | (kind == 11)
    shower = np.maximum((generator.random(len(pt)) - _MIP_SHARE) / (1 - _MIP_SHARE), 0.0)
    shower = np.where(is_electromagnetic, 1.0, shower)
    transverse = energy / np.cosh(eta)
    towers = np.stack(
        [
            np.floor(eta / _TOWER).astype(np.int64) + _N_ETA // 2,
            (phi / _TOWER_PHI).astype(np.int64),
        ],
        1,
    )
    towers[:, 1] %= _N_PHI
    deposits = np.stack([transverse * shower, transverse * (1 - shower)], 1)
    first = np.arange(n + 1)
    return _Collisions(
        usable=np.arange(n),
        tower_start=np.searchsorted(collision[reaches], first),
        towers=towers[reaches],
        deposits=deposits[reaches].astype(np.float32),
        muon_start=np.searchsorted(collision[is_muon], first),
        muons=muons,
        forward=np.stack(sums, 1).astype(np.float32),
    )


def _entries(starts: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return the entries of the chosen collisions, and for each the position of its collision."""
    counts = starts[chosen + 1] - starts[chosen]
    owner = np.repeat(np.arange(len(chosen)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return starts[chosen][owner] + offsets, owner


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Collisions in their crossings, each turned and mirrored at random.

    Attributes:
        energy: float64 [2, n_crossings, eta, phi] ET (GeV) of both layers.
        forward: float64 [n_crossings, 2] GeV.
        muons, muon_crossing: float64 [m, 3] pT, eta, phi; int64 [m].
    """

    energy: NDArray[np.float64]
    forward: NDArray[np.float64]
    muons: NDArray[np.float64]
    muon_crossing: NDArray[np.int64]


def _place(
    collisions: _Collisions,
    chosen: NDArray[np.int64],
    crossing: NDArray[np.int64],
    n_crossings: int,
    generator: np.random.Generator,
) -> _Placed:
    """Put the `chosen` collisions into crossings, int64 [n] each."""
    turn = generator.integers(0, _N_PHI, len(chosen))
    is_mirrored = generator.random(len(chosen)) < 0.5
    entry, owner = _entries(collisions.tower_start, chosen)
    row, column = collisions.towers[entry].T
    row = np.where(is_mirrored[owner], _N_ETA - 1 - row, row)
    column = (column + turn[owner]) % _N_PHI
    cell = (crossing[owner] * _N_ETA + row) * _N_PHI + column
    shape = (n_crossings, _N_ETA, _N_PHI)
    deposits = collisions.deposits[entry]
    energy = [np.bincount(cell, deposits[:, i], minlength=int(np.prod(shape))) for i in (0, 1)]
    angle = turn * _TOWER_PHI
    x, y = collisions.forward[chosen].T
    turned = (x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle))
    entry, owner = _entries(collisions.muon_start, chosen)
    muons = collisions.muons[entry].astype(np.float64)
    muons[:, 1] *= np.where(is_mirrored[owner], -1, 1)
    muons[:, 2] = (muons[:, 2] + angle[owner]) % (2 * np.pi)
    return _Placed(
        energy=np.asarray(energy, dtype=np.float64).reshape(2, *shape),
        forward=np.stack([np.bincount(crossing, v, minlength=n_crossings) for v in turned], 1),
        muons=muons,
        muon_crossing=crossing[owner],
    )


def _crossings(
    hard: _Collisions | None,
    chosen: NDArray[np.int64],
    pool: _Collisions,
    generator: np.random.Generator,
) -> NDArray[np.int16]:
    """Overlay hard collisions with pile-up and reconstruct them: int16 [len(chosen), 57]."""
    n = len(chosen)
    crossing = np.repeat(np.arange(n), generator.poisson(PILE_UP, n))
    drawn = generator.choice(pool.usable, len(crossing))
    placed = [_place(pool, drawn, crossing, n, generator)]
    if hard is not None:
        placed.append(_place(hard, chosen, np.arange(n), n, generator))
    towers = _digitise(sum(p.energy for p in placed), generator)  # type: ignore[arg-type]
    forward = sum(p.forward for p in placed)
    forward = forward + generator.normal(0.0, 6.0, (n, 2))  # GeV: forward calorimeter
    muons = np.concatenate([p.muons for p in placed])
    muon_crossing = np.concatenate([p.muon_crossing for p in placed])
    return np.concatenate(
        [
            _missing_energy(towers.sum(0), forward),
            _electrons(towers),
            _muon_objects(muons, muon_crossing, n, generator),
            _jets(towers.sum(0)),
        ],
        axis=1,
    ).astype(np.int16)


def _digitise(energy: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float32]:
    """Smear, suppress, round and saturate trigger towers [2, batch, eta, phi] (GeV)."""
    stochastic = np.array([0.1, 1.0])[:, None, None, None]
    constant = np.array([0.02, 0.06])[:, None, None, None]
    noise = np.array([0.1, 0.2])[:, None, None, None]
    width = np.sqrt(stochastic**2 * energy + (constant * energy) ** 2 + noise**2)
    smeared = energy + width * generator.standard_normal(energy.shape)
    rounded = np.floor(np.clip(smeared, 0.0, _TOWER_MAX_GEV) / _TOWER_LSB_GEV) * _TOWER_LSB_GEV
    return np.asarray(rounded, dtype=np.float32)


def _window_sum(towers: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Sum over width x width towers around each; phi is cyclic."""
    half = width // 2
    padded = np.pad(towers, ((0, 0), (half, half), (0, 0)))
    padded = np.concatenate([padded[..., -half:], padded, padded[..., :half]], axis=-1)
    rows = np.add.reduce([padded[:, i : i + _N_ETA] for i in range(width)])
    total: NDArray[np.float32] = np.add.reduce([rows[..., i : i + _N_PHI] for i in range(width)])
    return total


def _is_peak(towers: NDArray[np.float32], width: int) -> NDArray[np.bool_]:
    """Say which towers are the greatest of their width x width window; of equal ones, the last."""
    half = width // 2
    rank = towers * 2.0**12 + np.arange(_N_ETA * _N_PHI).reshape(_N_ETA, _N_PHI) * 2.0**-2
    padded = np.pad(rank.astype(np.float64), ((0, 0), (half, half), (0, 0)))
    padded = np.concatenate([padded[..., -half:], padded, padded[..., :half]], axis=-1)
    rows = padded[:, :_N_ETA].copy()
    for i in range(1, width):
        np.maximum(rows, padded[:, i : i + _N_ETA], out=rows)
    best = rows[..., :_N_PHI].copy()
    for i in range(1, width):
        np.maximum(best, rows[..., i : i + _N_PHI], out=best)
    return np.asarray(rank == best)


def _leading(
    event: NDArray[np.int64],
    pt: NDArray[np.floating[Any]],
    eta: NDArray[np.floating[Any]],
    phi: NDArray[np.floating[Any]],
    n_slots: int,
    n_events: int,
) -> NDArray[np.int64]:
    """Write the leading objects of each event as words, [batch, 3 n_slots]; the rest is zero."""
    words = np.zeros((n_events, n_slots, 3), dtype=np.int64)
    order = np.lexsort((-pt, event))
    event = event[order]
    place = np.arange(len(event)) - np.searchsorted(event, event)
    kept = place < n_slots
    fields = zip((pt, eta, phi), UNITS.values(), strict=True)
    values = [np.floor(value[order][kept] / unit) for value, unit in fields]
    values[0] = np.minimum(values[0], PT_WORD_MAX)
    values[2] %= round(2 * np.pi / UNITS["phi"])
    words[event[kept], place[kept]] = np.stack(values, 1).astype(np.int64)
    return words.reshape(n_events, -1)


def _centres(
    row: NDArray[np.int64], column: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    eta = np.asarray((row - _N_ETA // 2 + 0.5) * _TOWER, dtype=np.float64)
    return eta, np.asarray((column + 0.5) * _TOWER_PHI, dtype=np.float64)


def _missing_energy(towers: NDArray[np.float32], forward: NDArray[np.float64]) -> NDArray[np.int64]:
    phi = (np.arange(_N_PHI) + 0.5) * _TOWER_PHI
    rings = towers.sum(1)
    x = -(rings @ np.cos(phi)) - forward[:, 0]
    y = -(rings @ np.sin(phi)) - forward[:, 1]
    n = len(towers)
    zero = np.zeros(n)
    angle = np.arctan2(y, x) % (2 * np.pi)
    return _leading(np.arange(n), np.hypot(x, y), zero, angle, OBJECTS["met"], n)


def _electrons(towers: NDArray[np.float32]) -> NDArray[np.int64]:
    electromagnetic, hadronic = towers
    cluster = _window_sum(electromagnetic, 3)
    around = _window_sum(towers.sum(0), 9)
    around -= around.mean(axis=(1, 2), keepdims=True)  # pile-up
    behind = _window_sum(hadronic, 3)
    good = _is_peak(electromagnetic, 3) & (cluster >= _ELECTRON_PT_MIN_GEV)
    good &= behind <= _HADRONIC_SHARE_MAX * cluster
    good &= around - cluster <= _ISOLATION_MAX * cluster
    event, row, column = np.nonzero(good)
    return _leading(event, cluster[good], *_centres(row, column), OBJECTS["electron"], len(cluster))


def _muon_objects(
    muons: NDArray[np.float64],
    event: NDArray[np.int64],
    n_events: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    width = np.where(
        generator.random(len(muons)) < _TAIL_SHARE, _TAIL_RESOLUTION, _CURVATURE_RESOLUTION
    )
    curvature = np.abs(1.0 + width * generator.standard_normal(len(muons)))
    pt = muons[:, 0] / np.maximum(curvature, 1e-3)
    good = (generator.random(len(muons)) < _MUON_EFFICIENCY) & (pt >= _MUON_PT_MIN_GEV)
    return _leading(
        event[good], pt[good], muons[good, 1], muons[good, 2], OBJECTS["muon"], n_events
    )


def _jets(towers: NDArray[np.float32]) -> NDArray[np.int64]:
    sums = _window_sum(towers, 9)
    # Pile-up: what a window holds on average where no tower is hot.
    quiet = np.minimum(towers, _JET_SEED_GEV).mean(axis=2, keepdims=True)
    pt = sums - 81 * quiet
    good = _is_peak(towers, 9) & (towers >= _JET_SEED_GEV) & (pt >= _JET_PT_MIN_GEV)
    event, row, column = np.nonzero(good)
    return _leading(event, pt[good], *_centres(row, column), OBJECTS["jet"], len(sums))


def _passes_filter(x: NDArray[np.int16]) -> NDArray[np.bool_]:
    electron = x[:, FEATURES.index("electron1_pt")] * UNITS["pt"]
    muon = x[:, FEATURES.index("muon1_pt")] * UNITS["pt"]
    return np.asarray((electron >= _FILTER_ELECTRON_GEV) | (muon >= _FILTER_MUON_GEV))
