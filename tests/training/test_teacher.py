"""Distillation: the teacher is better than chance, and never sees the rows held out."""

import numpy as np

from codesign.space import load_space
from codesign.training import TaskArrays, TrainingOptions
from codesign.training import teacher as teacher_module
from codesign.training.sampling import sample_candidates
from codesign.training.teacher import train_teacher
from codesign.training.train import split_rows, train_population


def sampled(n: int):
    space = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    return sample_candidates(space, n, seed=1, part="xcvu13p-flga2577-2-e")


def blobs() -> TaskArrays:
    generator = np.random.default_rng(5)
    y = generator.integers(0, 5, 900)
    x = (generator.normal(0, 0.7, (5, 16))[y] + generator.normal(0, 1, (900, 16))).astype(
        np.float32
    )
    return TaskArrays(x_train=x[:700], y_train=y[:700], x_test=x[700:], y_test=y[700:])


def test_the_teacher_ignores_labels_of_held_out_rows(monkeypatch):
    monkeypatch.setattr(teacher_module, "_EPOCHS", 4)
    task = blobs()
    first = train_teacher(task, seed=1)
    _, held_out = split_rows(len(task.y_train), TrainingOptions.validation_fraction)
    y = task.y_train.copy()
    y[held_out] = (y[held_out] + 1) % 5
    changed = TaskArrays(x_train=task.x_train, y_train=y, x_test=task.x_test, y_test=task.y_test)
    assert np.array_equal(first, train_teacher(changed, seed=1))
    score = (first[held_out].argmax(axis=1) == task.y_train[held_out]).mean()
    assert score > 0.4  # chance is 0.2
    assert np.allclose(np.exp(first).sum(axis=1), 1.0, atol=1e-5)  # float32 sums of five


def test_students_learn_from_a_teacher_alone():
    """With all weight on a teacher that is always right, hard labels of other meaning do no harm."""
    task = blobs()
    options = TrainingOptions(epochs=4, batch_size=50, distillation_weight=1.0)
    logits = np.full((len(task.y_train), 5), -4.0, dtype=np.float32)
    logits[np.arange(len(task.y_train)), task.y_train] = 4.0
    wrong = TaskArrays(
        x_train=task.x_train,
        y_train=(task.y_train + 1) % 5,
        x_test=task.x_test,
        y_test=task.y_test,
    )
    result = train_population(sampled(3), wrong, options, seed=1, teacher_logits=logits)
    assert np.median(result.test_score) > 0.4  # chance is 0.2
