"""The toy Level-1 detector against plain definitions; the simulation itself needs Pythia."""

import importlib.util

import numpy as np
import pytest
from scipy import ndimage

from codesign.errors import ConfigError
from codesign.tasks import _level1_generator as level1


def test_window_sums_are_those_of_a_cyclic_convolution():
    towers = np.random.default_rng(0).exponential(1.0, (2, 68, 72)).astype(np.float32)
    for width in (3, 9):
        box = np.ones((width, width))
        expected = [
            ndimage.convolve1d(
                ndimage.convolve1d(t, box[0], axis=0, mode="constant"), box[0], axis=1, mode="wrap"
            )
            for t in towers.astype(np.float64)
        ]
        np.testing.assert_allclose(level1._window_sum(towers, width), expected, rtol=1e-4)


def test_every_window_has_one_peak_even_among_equal_towers():
    towers = np.zeros((1, 68, 72), dtype=np.float32)
    towers[0, 30:33, 10:13] = 7.0
    peaks = level1._is_peak(towers, 9) & (towers > 0)
    assert peaks.sum() == 1


def test_a_photon_is_an_electron_and_a_pion_a_jet_where_they_went():
    generator = np.random.default_rng(1)
    particles = []
    for pt, eta, phi, kind, charge in ((40.0, 0.5, 1.0, 22, 0), (60.0, -1.2, 4.0, 211, 1)):
        particles.append(
            (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta), kind, charge)
        )
    collisions = level1._deposit(np.array(particles), np.array([0, 2]), generator)
    placed = level1._place(collisions, np.array([0]), np.array([0]), 1, generator)
    assert placed.energy.sum() == pytest.approx(100.0, rel=1e-3)
    towers = level1._digitise(placed.energy, generator)
    electrons, jets = level1._electrons(towers)[0], level1._jets(towers.sum(0))[0]
    assert electrons[0] * level1.UNITS["pt"] == pytest.approx(40.0, rel=0.15)
    assert abs(electrons[1] * level1.UNITS["eta"]) == pytest.approx(0.5, abs=0.1)
    assert (jets[0::3] > 0).sum() == 2
    assert jets[0] * level1.UNITS["pt"] == pytest.approx(60.0, rel=0.4)
    # what is missing balances what is there
    met = level1._missing_energy(placed.energy.sum(0), placed.forward)[0]  # before smearing
    both = np.hypot(40 * np.cos(1) + 60 * np.cos(4), 40 * np.sin(1) + 60 * np.sin(4))
    assert met[0] * level1.UNITS["pt"] == pytest.approx(both, abs=3.0)


def test_objects_come_by_falling_pt_and_the_rest_is_zero():
    event = np.array([0, 0, 1, 0])
    pt, eta, phi = np.array([5.0, 9.0, 600.0, 7.0]), np.zeros(4), np.full(4, 3.0)
    words = level1._leading(event, pt, eta, phi, 2, 3)
    assert words[0, [0, 3]].tolist() == [18, 14] and words[1, 0] == 1023  # saturated
    assert not words[2].any() and not words[1, 3:].any()


@pytest.mark.parametrize(
    "change", [{"n_events": {"susy": 3}}, {"n_events": {"w": 0}}, {"seed": -1}, {"pool_size": 5}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ConfigError):
        level1.Level1Settings(**{"n_events": {"w": 1}, "seed": 1, **change})


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("pythia8mc") is None, reason="pythia8mc is absent (extra `generate`)"
)
def test_the_same_seed_gives_the_same_events():
    settings = level1.Level1Settings(n_events={"w": 5, "h_4l": 5}, seed=3, pool_size=200)
    first, second = level1.generate(settings), level1.generate(settings)
    assert (first.x == second.x).all() and first.x.shape == (10, 57)
    assert (first.rate_khz[first.process == 0] > 0).all()
