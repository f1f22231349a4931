"""Curves of the report, and the trigger's threshold as a word of the output."""

from types import SimpleNamespace

import numpy as np
import pytest

from codesign.ir import FixedPoint
from codesign.report.curves import curve_figures
from codesign.stages.curves import curves_of, trigger_of
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays
from codesign.training.judge import event_score, judge_outputs


def arrays_of(source, options=None):
    data = load_task(source, options or {})
    return TaskArrays.of(data, fit_scaling(data))


@pytest.fixture(scope="module")
def anomaly():
    arrays = arrays_of("level1", {"judged_by": {"name": "efficiency_at_rate", "rate_khz": 5.0}})
    head = arrays.target.heads[0]
    outputs = np.round(32 * (arrays.y_test - head.offset[0]) / head.scale[0]) / 32
    return arrays, outputs.astype(np.float64)


def test_the_threshold_word_fires_at_the_rate_and_has_the_metrics_efficiency(anomaly):
    arrays, outputs = anomaly
    network = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<12,7,AP_TRN,AP_SAT>"))
    trigger = trigger_of(network, arrays, outputs)
    words = np.floor(outputs[:, 0] * 32).astype(np.int64)
    fires = words >= trigger.threshold_word
    labels = arrays.events.labels
    assert fires[labels == 0].mean() * trigger.input_rate_khz == pytest.approx(trigger.rate_khz)
    assert trigger.rate_khz <= 5.0
    # one word lower is too frequent
    assert (words >= trigger.threshold_word - 1)[labels == 0].mean() * trigger.input_rate_khz > 5.0
    judged = judge_outputs(outputs, arrays)["events"].score
    assert judged == pytest.approx(fires[labels > 0].mean())  # event for event
    for index, name in enumerate(arrays.events.names[1:], start=1):
        assert trigger.efficiency[name] == pytest.approx(fires[labels == index].mean())


def test_without_a_rate_there_is_no_trigger(anomaly):
    _, outputs = anomaly
    network = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<12,7,AP_TRN,AP_SAT>"))
    assert trigger_of(network, arrays_of("level1"), outputs) is None
    assert trigger_of(network, arrays_of("muons"), np.zeros((8000, 2))) is None


def test_every_head_has_finite_curves_that_can_be_drawn(anomaly):
    generator = np.random.default_rng(0)
    kinds = set()
    for arrays in (anomaly[0], arrays_of("muons"), arrays_of("jet_particles")):
        outputs = generator.standard_normal((len(arrays.x_test), arrays.n_outputs))
        curves = curves_of(arrays, outputs)
        for curve in curves:
            assert len(curve.x) == len(curve.y) == len(curve.error) > 1
            assert np.isfinite([curve.x, curve.y, curve.error]).all()
        kinds |= {curve.kind for curve in curves}
        summary = {
            "curves": [curve.model_dump() for curve in curves],
            "trigger": None,
            "heads": {},
            "finalists": [],
        }
        names = [name for name, _ in curve_figures(summary)]
        assert len(names) == len(set(names)) == len({(c.head, c.kind) for c in curves})
    assert kinds == {"roc", "histogram", "response", "resolution", "turn_on"}


def test_a_reconstruction_is_judged_by_its_error():
    arrays = arrays_of("level1", {"heads": [{"name": "inputs", "kind": "reconstruction"}]})
    worse = arrays.x_test + np.where(arrays.events.labels > 0, 2.0, 0.1)[:, None]
    score = event_score(arrays, worse.astype(np.float64))
    np.testing.assert_allclose(score[arrays.events.labels > 0], 4.0, rtol=1e-4)
    assert judge_outputs(worse.astype(np.float64), arrays)["events"].score == 1.0
