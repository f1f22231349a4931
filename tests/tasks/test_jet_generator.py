"""The jet generator: features against brute force, and the bundled jets from their seed."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import ConfigError, ToolError
from codesign.tasks import _jetgen, load_task
from codesign.tasks._jetgen import JetSettings, correlation_features


def brute_force(pt: np.ndarray, rapidity: np.ndarray, phi: np.ndarray) -> dict[str, float]:
    """The definitions, triple by triple (arXiv:1305.0007, 1409.6298, 1609.07483)."""
    z = pt / pt.sum()

    def distance(i: int, j: int) -> float:
        d_phi = (phi[i] - phi[j] + np.pi) % (2 * np.pi) - np.pi
        return float(np.hypot(rapidity[i] - rapidity[j], d_phi))

    found = {"c1_b0_mmdt": sum(z[i] * z[j] for i, j in itertools.combinations(range(len(z)), 2))}
    e2, e3 = {}, {}
    for b in (1, 2):
        pairs = itertools.combinations(range(len(z)), 2)
        e2[b] = sum(z[i] * z[j] * distance(i, j) ** b for i, j in pairs)
        e3[b] = {1: 0.0, 2: 0.0, 3: 0.0}
        for triple in itertools.combinations(range(len(z)), 3):
            weight = np.prod(z[list(triple)])
            angles = sorted(distance(i, j) for i, j in itertools.combinations(triple, 2))
            for v in (1, 2, 3):
                e3[b][v] += weight * np.prod(angles[:v]) ** b
        found[f"c1_b{b}_mmdt"] = e2[b]
        found[f"c2_b{b}_mmdt"] = e3[b][3] / e2[b] ** 2
        found[f"d2_b{b}_mmdt"] = e3[b][3] / e2[b] ** 3
        found[f"m2_b{b}_mmdt"] = e3[b][1] / e2[b]
        found[f"n2_b{b}_mmdt"] = e3[b][2] / e2[b] ** 2
    found["d2_a1_b1_mmdt"] = e3[1][3] / e2[1] ** 3
    found["d2_a1_b2_mmdt"] = e3[1][3] / e2[2] ** 1.5
    return found


@given(n=st.integers(3, 9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_correlation_features_agree_with_their_definitions(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pt = generator.exponential(100.0, n) + 1.0
    rapidity, phi = generator.normal(0, 0.3, n), generator.normal(3.1, 0.3, n)  # across +-pi
    expected = brute_force(pt, rapidity, phi)
    found = correlation_features(pt, rapidity, phi)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # M and N sum in float32 for speed
        assert found[name] == pytest.approx(value, rel=2e-4, abs=1e-9), name


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_constituents_have_no_triples(n: int) -> None:
    features = correlation_features(np.full(n, 10.0), np.arange(n) * 0.1, np.zeros(n))
    assert features["c2_b1_mmdt"] == features["n2_b2_mmdt"] == 0.0
    assert features["c1_b1_mmdt"] == pytest.approx(0.025 if n == 2 else 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_per_class": 0}, "n_per_class is 0"),
        ({"seed": -1}, "seed is -1; expected 0 to"),
        ({"seed": 10**6}, "Pythia's limit"),
        ({"n_constituents": -1}, "n_constituents is -1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JetSettings(**({"n_per_class": 1, "seed": 1} | changes))


def test_without_pythia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign import tools

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(tools.importlib, "import_module", absent)
    with pytest.raises(ToolError, match=r"-m pip install .*(generate|pythia8mc)"):
        _jetgen.generate(JetSettings(n_per_class=1, seed=1))


def test_written_jets_load_as_a_task(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    jets = _jetgen.Jets(
        x=generator.normal(size=(40, 16)).astype(np.float32),
        y=(np.arange(40) % 5).astype(np.int8),
        kinematics=np.zeros((40, 4), np.float32),
        constituents=np.zeros((40, 0, 4), np.float32),
    )
    _jetgen.write_jets(jets, tmp_path / "jets.npz")
    data = load_task("npz", {"path": tmp_path / "jets.npz"})
    assert data.class_names == ("g", "q", "t", "w", "z") and data.feature_names[0] == "zlogz"
    assert [p.name for p in tmp_path.iterdir()] == ["jets.npz"]


@pytest.mark.slow
def test_the_bundled_jets_come_from_seed_1() -> None:
    pytest.importorskip("pythia8mc", reason="pythia8mc is absent (extra `generate`)")
    data = load_task("jets")
    bundled = {
        x.tobytes(): int(y)
        for x, y in zip(
            np.concatenate((data.x_train, data.x_test)),
            np.concatenate((data.y_train, data.y_test)),
            strict=True,
        )
    }
    n_done: list[int] = []
    jets = _jetgen.generate(JetSettings(n_per_class=30, seed=1), progress=n_done.append)
    assert sum(n_done) == len(jets.y) == 150
    matches = [
        (bundled[x.tobytes()], int(y))
        for x, y in zip(jets.x, jets.y, strict=True)
        if x.tobytes() in bundled
    ]
    # The bundle is a tenth of the run with seed 1, so about 15 of these 150 jets are in it; measured: 15.
    assert len(matches) == 15
    assert all(theirs == ours for theirs, ours in matches)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing() -> None:
    pytest.importorskip("pythia8mc", reason="pythia8mc is absent (extra `generate`)")
    settings = JetSettings(n_per_class=2, seed=5, n_constituents=8)
    alone = _jetgen.generate(settings)
    n_done: list[int] = []
    together = _jetgen.generate(settings, n_processes=2, progress=n_done.append)
    assert sum(n_done) == 10
    for field in ("x", "y", "kinematics", "constituents"):
        assert (getattr(alone, field) == getattr(together, field)).all()
    other = _jetgen.generate(JetSettings(n_per_class=2, seed=6))
    assert not (other.x == alone.x).all()
    assert alone.constituents.shape == (10, 8, 4)
    pt = alone.constituents[:, :, 0]
    assert (np.diff(pt, axis=1) <= 0).all() and (alone.kinematics[:, 0] > 800).all()
