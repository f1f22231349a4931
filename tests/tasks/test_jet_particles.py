"""Particles of the bundled jets and of generated ones: which rows and steps, and what is computed of them."""

from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DataError
from codesign.tasks import load_task

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "jets"


def load(**options):
    return load_task("jet_particles", {"shape": "particles", **options})


@pytest.mark.parametrize("n", [8, 16, 32])
def test_fewer_particles_are_the_leading_ones_of_more(n):
    few, all_of_them = load(n_particles=n), load(n_particles=32, n_features=16)
    assert few.x_train.shape == (16_000, n, 3)
    assert np.array_equal(few.x_test, all_of_them.x_test[:, :n, :3])
    pt = few.x_train[..., 0]
    assert (np.diff(pt, axis=1) <= 0.5).all() and (few.x_train * [2, 256, 256] % 1 == 0).all()


def test_the_bundle_is_the_set_it_came_from_in_coarser_steps():
    if not (path := SHARED / "jets_constituents_80k.npz").is_file():
        pytest.skip("the shared set of 80,000 jets is absent")
    with np.load(path, allow_pickle=False) as file:
        particles, kind = np.split(file["P"][:20_000].astype(np.float32), [3], axis=2)
    data = load(n_particles=32, n_features=16)
    x = np.concatenate([data.x_train, data.x_test])
    assert (np.abs(x[..., :3] - particles) <= np.array([0.26, 1 / 500, 1 / 500])).all()
    assert np.array_equal((x[..., -3:] * [1, 2, 3]).sum(axis=-1), kind[..., 0])


def test_derived_features_follow_from_the_particles_given():
    x = load(n_particles=16, n_features=16).x_train.astype(np.float64)
    is_there = x[..., 0] > 0
    assert not x[~is_there].any() and not is_there.all()
    assert np.allclose(x[..., 4].sum(axis=1), 1.0, atol=1e-5)  # shares of pT
    assert np.allclose(x[..., 10] ** 2 + x[..., 11] ** 2, x[..., 6] ** 2, atol=1e-5)  # turned
    assert np.abs(x[:, 1, 11]).max() < 1e-5 and (x[:, 1, 10] > -1e-6).all()
    assert np.allclose((2.0 ** x[..., 3])[is_there], x[..., 0][is_there], rtol=1e-5)
    assert (x[..., 13:].sum(axis=-1) == is_there).all()  # one kind each


def test_a_generated_file_is_read_in_the_same_steps(tmp_path):
    generator = np.random.default_rng(1)
    constituents = np.zeros((50, 10, 4), dtype=np.float32)
    constituents[..., 0] = np.sort(generator.uniform(1, 300, (50, 10)))[:, ::-1]
    constituents[..., 1:3] = generator.normal(size=(50, 10, 2)) / 5
    constituents[..., 3] = generator.integers(1, 4, (50, 10))
    np.savez(
        tmp_path / "jets.npz",
        constituents=constituents,
        kinematics=generator.uniform(900, 1100, (50, 4)),
        y=np.tile(np.arange(5), 10),
        class_names=np.array(list("gqtwz")),
    )
    data = load(path=str(tmp_path / "jets.npz"), n_particles=10, n_features=16)
    assert np.abs(data.x_train[..., :3] - constituents[:40, :, :3]).max() <= 0.25
    assert data.benchmark.startswith("own-") or "jet-particles" not in data.benchmark
    with pytest.raises(DataError, match="n_particles is 12, the file has 10"):
        load(path=str(tmp_path / "jets.npz"), n_particles=12)
    np.savez(tmp_path / "flat.npz", y=np.zeros(5))
    with pytest.raises(DataError, match=r"lacks the arrays \['constituents'"):
        load(path=str(tmp_path / "flat.npz"))
