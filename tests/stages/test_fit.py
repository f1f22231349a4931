"""Which method a round fits: chosen once, refitted, and chosen again when there are twice the labels."""

import numpy as np
import pytest

from codesign.encoding.population import encode_population
from codesign.predictor import train as predictor_train
from codesign.results import Fit, HeldOut
from codesign.space import load_space
from codesign.stages import fit as stage
from codesign.study import LabelSection


def fitted(n_train: int, method: str) -> Fit:
    return Fit(
        method=method,
        why="",
        n_train=n_train,
        n_held_out=4,
        tau=0.5,
        tau_parameters=0.4,
        coverage=0.9,
        held_out=HeldOut(label=[], mean=[], std=[]),
    )


@pytest.mark.parametrize(
    ("fits", "n_train", "expected"),
    [
        ([], 20, None),
        ([(20, "gp")], 39, "gp"),
        ([(20, "gp")], 40, None),
        ([(20, "gp"), (30, "gp")], 39, "gp"),
        ([(20, "gp"), (30, "gp")], 41, None),
        ([(20, "gp"), (45, "ridge")], 60, "ridge"),
        ([(20, "gp"), (45, "ridge"), (60, "ridge")], 89, "ridge"),
        ([(20, "gp"), (45, "ridge"), (60, "ridge")], 90, None),
    ],
)
def test_a_choice_holds_until_labels_have_doubled(fits, n_train, expected):
    assert stage.chosen_before([fitted(*f) for f in fits], n_train=n_train) == expected


def test_what_was_chosen_is_refitted_without_comparing(monkeypatch):
    space = load_space("mlp_tiny", n_inputs=(16,), n_outputs=5)
    batch = encode_population(space.decode(space.sample(12, np.random.default_rng(0))))
    labels = np.random.default_rng(1).normal(size=12)
    monkeypatch.setattr(predictor_train, "choose", lambda *_, **__: pytest.fail("compared again"))
    predictor, why = stage._fit_method(LabelSection(), batch, labels, 0, "ridge")
    assert predictor.method == "ridge" and "earlier round" in why
    # a method that the user names is fitted whatever was chosen before
    predictor, _ = stage._fit_method(LabelSection(predictor="gp"), batch, labels, 0, "ridge")
    assert predictor.method == "gp"


def test_equal_labels_leave_hardware_alone_to_search_until_some_differ():
    """A space of one architecture: every label is the same network's."""
    space = load_space("mlp_tiny", n_inputs=4, n_outputs=2)
    batch = encode_population(space.decode(space.sample(16, np.random.default_rng(0))))
    predictor, why = stage._fit_method(LabelSection(), batch, np.full(16, 0.7), 0, None)
    assert predictor.method == "constant" and "hardware alone" in why
    assert set(predictor.predict(batch).mean) == {0.7}
    hardly = np.where(np.arange(16) == 3, 0.71, 0.7)  # a fold without that one would be refused
    predictor, why = stage._fit_method(LabelSection(), batch, hardly, 0, None)
    assert predictor.method == "constant" and why.startswith("15 of 16 labels")
    labels = 0.7 + 0.01 * np.arange(16)
    predictor, _ = stage._fit_method(
        LabelSection(predictor="ridge"), batch, labels, 0, predictor.method
    )
    assert predictor.method == "ridge"
