"""Labelling promises: resumable, shared between hardware variants, the same as training directly."""

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from codesign.errors import DataError, DesignError, StudyError
from codesign.layers import run_words
from codesign.space import candidates_from_population, load_space
from codesign.training import (
    LabelStore,
    TaskArrays,
    TrainingOptions,
    label_candidates,
    train_population,
)
from codesign.training.judge import merit_of

OPTIONS = TrainingOptions(epochs=1, batch_size=350, chunk_size=2)


@pytest.fixture(scope="module")
def task():
    generator = np.random.default_rng(5)
    y = generator.integers(0, 5, 500)
    x = (generator.normal(0, 1, (5, 16))[y] + generator.normal(0, 1, (500, 16))).astype(np.float32)
    return TaskArrays(x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])


@pytest.fixture(scope="module")
def candidates():
    space = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
    population = space.decode(space.sample(4, np.random.default_rng(1)))
    return candidates_from_population(population, part="xcvu13p-flga2577-2-e")


class Killed(Exception):
    pass


class DyingExecutor:
    """Runs jobs at once; the second one fails, as when a run is killed."""

    def __init__(self):
        self.n_jobs = 0

    def submit(self, function, *arguments):
        self.n_jobs += 1
        future = Future()
        if self.n_jobs == 2:
            future.set_exception(Killed())
        else:
            future.set_result(function(*arguments))
        return future


def test_labels_are_those_of_direct_training(tmp_path, task, candidates):
    with LabelStore(tmp_path / "labels.db") as store:
        found = label_candidates(candidates, task, OPTIONS, store=store, seeds=(1,))
    direct = train_population(candidates, task, OPTIONS, seed=1)
    assert np.array_equal(found.validation_score[:, 0], direct.validation_score)
    assert np.array_equal(found.test_score[:, 0], direct.test_score)


def test_a_killed_run_resumes_to_the_same_labels(tmp_path, task, candidates):
    with LabelStore(tmp_path / "unbroken.db") as store:
        unbroken = label_candidates(candidates, task, OPTIONS, store=store, seeds=(1, 2))
    with LabelStore(tmp_path / "labels.db") as store, pytest.raises(Killed):
        label_candidates(
            candidates, task, OPTIONS, store=store, seeds=(1, 2), executor=DyingExecutor()
        )
    with LabelStore(tmp_path / "labels.db") as store:
        resumed = label_candidates(candidates, task, OPTIONS, store=store, seeds=(1, 2))
        again = label_candidates(candidates, task, OPTIONS, store=store, seeds=(1, 2))
    assert resumed.n_trained < unbroken.n_trained
    assert again.n_trained == 0
    assert np.array_equal(resumed.validation_score, unbroken.validation_score)
    assert np.array_equal(again.test_score, unbroken.test_score)


def test_variants_that_differ_in_hardware_share_a_label(tmp_path, task, candidates):
    slower = [replace(c, hardware=replace(c.hardware, clock_period_ns=9.0)) for c in candidates[:2]]
    with LabelStore(tmp_path / "labels.db") as store:
        found = label_candidates([*candidates[:2], *slower], task, OPTIONS, store=store)
    assert found.n_trained == 2
    assert np.array_equal(found.validation_score[:2], found.validation_score[2:])


def test_options_that_change_labels_change_the_digest():
    assert OPTIONS.digest != replace(OPTIONS, epochs=2).digest
    assert OPTIONS.digest == replace(OPTIONS, device="cpu").digest


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "labels.db"
    path.write_text("no database, but long enough to be mistaken for one" * 100)
    with pytest.raises(StudyError, match="label store"):
        LabelStore(path)


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "labels.db"
    with LabelStore(path) as store, store._connection:
        store._connection.execute("UPDATE about SET value = '99'")
    with pytest.raises(StudyError, match="schema 99"):
        LabelStore(path)


def test_nothing_to_label_is_refused(tmp_path, task):
    with (
        LabelStore(tmp_path / "labels.db") as store,
        pytest.raises(DesignError, match="at least one"),
    ):
        label_candidates([], task, OPTIONS, store=store)


def test_labels_are_measured_on_rows_of_their_own_where_there_are_some(tmp_path, task, candidates):
    generator = np.random.default_rng(6)
    x = generator.normal(0, 1.5, (5000, 16)).astype(np.float32)  # more than one block of rows
    y = generator.integers(0, 5, 5000)
    other = replace(task, x_measured=x, y_measured=y)
    plain = train_population(candidates, task, OPTIONS, seed=1)
    found = train_population(candidates, other, OPTIONS, seed=1)
    for before, after, score in zip(
        plain.networks, found.networks, found.validation_score, strict=True
    ):
        assert before.digest == after.digest  # training sees nothing of them
        assert score == merit_of(after, task, x, y, weights=None)
        words = after.input_words(x)
        assert score == (np.argmax(run_words(after, words), axis=1) == y).mean()
    assert np.array_equal(plain.test_score, found.test_score)
    with LabelStore(tmp_path / "labels.db") as store:  # other rows are other labels
        assert label_candidates(candidates, task, OPTIONS, store=store).n_trained == 4
        assert label_candidates(candidates, other, OPTIONS, store=store).n_trained == 4


def test_rows_to_measure_on_come_with_their_classes(task):
    with pytest.raises(DataError, match="go together"):
        replace(task, x_measured=task.x_test)
    with pytest.raises(DataError, match="train and measured inputs differ in shape"):
        replace(task, x_measured=task.x_test[:, :3], y_measured=task.y_test)
