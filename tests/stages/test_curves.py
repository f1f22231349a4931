"""Curves of the report, and the trigger's threshold as a word of the output."""

from types import SimpleNamespace

import numpy as np
import pytest

from codesign.errors import ConfigError, DesignError
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_qonnx
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.ir import FixedPoint
from codesign.layers import run_torch, run_words
from codesign.layers.trigger import with_trigger
from codesign.report.curves import curve_figures
from codesign.space import candidates_from_population, load_space
from codesign.stages.curves import curves_of, trigger_of
from codesign.stages.export import require_rate, require_reachable
from codesign.tasks import fit_scaling, load_task
from codesign.tasks.target import HeadOptions, Target, make_head
from codesign.training import TaskArrays, TrainingOptions, train_population
from codesign.training.judge import event_score, judge_outputs, output_values
from codesign.validate.forms import onnx_form, verilog_form
from tests.export.test_all_forms import emulated_outputs


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


def test_a_score_whose_largest_word_is_too_frequent_reaches_no_threshold(anomaly):
    arrays, outputs = anomaly
    wide = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<12,7,AP_TRN,AP_SAT>"))
    require_reachable(wide, trigger_of(wide, arrays, outputs))
    narrow = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<6,1,AP_TRN,AP_SAT>"))
    saturated = np.minimum(outputs, narrow.output_format.max_value)
    trigger = trigger_of(narrow, arrays, saturated)
    assert not any(trigger.efficiency.values())
    with pytest.raises(DesignError, match="even the score's largest word, 31, comes too often"):
        require_reachable(narrow, trigger)


def test_a_turn_on_of_inverse_momentum_is_drawn_against_momentum():
    arrays = arrays_of("muons", {"heads": [{"name": "momentum"}]})
    head = arrays.target.heads[0]
    outputs = (arrays.y_test - head.offset[0]) / head.scale[0]  # a perfect answer
    (curve,) = [c for c in curves_of(arrays, outputs) if c.kind == "turn_on"]
    assert curve.x_title == "true 1/|q_over_pt| (GeV)" and curve.label.endswith(" GeV")
    assert curve.x[0] > 2 and curve.x[-1] < 200
    at = float(curve.label.split()[3])
    assert at == pytest.approx(np.median(1 / np.abs(arrays.y_test)), rel=0.01)
    assert curve.y[0] == 0 and curve.y[-1] == 1
    assert (np.diff(curve.y) >= 0).all()


def test_shares_are_drawn_down_to_the_rarest_and_events_keep_their_colours(anomaly):
    arrays, outputs = anomaly
    network = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<12,7,AP_TRN,AP_SAT>"))
    summary = {
        "curves": [c.model_dump() for c in curves_of(arrays, outputs)],
        "trigger": trigger_of(network, arrays, outputs).model_dump(),
        "heads": {},
        "finalists": [],
    }
    figures = dict(curve_figures(summary))
    roc, histogram = figures["events_roc"], figures["events_histogram"]
    for figure in (roc, histogram):
        low, high = figure.layout.yaxis.range
        assert figure.layout.yaxis.type == "log" and -7 < low < high < 0.2
        drawn = np.concatenate([trace.y for trace in figure.data])
        assert (np.log10(drawn) >= low - 1e-9).all() and np.log10(drawn.max()) < high
    colours = {trace.name: trace.line.color for trace in histogram.data}
    assert len(set(colours.values())) == 5
    assert all(trace.line.color == colours[trace.name] for trace in roc.data)


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


def test_a_histogram_of_scores_has_forty_bins_over_all_but_the_ends(anomaly):
    arrays = anomaly[0]
    outputs = np.random.default_rng(0).standard_normal((len(arrays.x_test), arrays.n_outputs))
    found = [c for c in curves_of(arrays, outputs) if c.kind == "histogram"]
    assert found and all(len(c.x) == 40 for c in found)
    low, high = np.quantile(outputs[:, 0], [0.001, 0.999])
    for curve in found:
        step = (high - low) / 40
        assert curve.x[0] == pytest.approx(low + step / 2)
        assert curve.x[-1] == pytest.approx(high - step / 2)
        assert 0.97 < sum(curve.y) <= 1


def test_a_reconstruction_is_judged_by_its_error():
    arrays = arrays_of("level1", {"heads": [{"name": "inputs", "kind": "reconstruction"}]})
    worse = arrays.x_test + np.where(arrays.events.labels > 0, 2.0, 0.1)[:, None]
    score = event_score(arrays, worse.astype(np.float64))
    np.testing.assert_allclose(score[arrays.events.labels > 0], 4.0, rtol=1e-4)
    assert judge_outputs(worse.astype(np.float64), arrays)["events"].score == 1.0


# ---- the trigger bit ----------------------------------------------------------------------------------
def small_trigger(rate_khz=5.0):
    """A small network of the level-1 objects, trained for a moment, and the bit that it ends in."""
    arrays = arrays_of(
        "level1",
        {
            "heads": [{"name": "anomaly"}],
            "judged_by": {"name": "efficiency_at_rate", "rate_khz": rate_khz},
            "n_train_max": 1200,
        },
    )
    space = load_space("autoencoder_l1", n_inputs=(57,), n_outputs=1)
    genes = {gene.name: i for i, gene in enumerate(space.genes)}
    genome = np.zeros(
        (1, len(genes)), dtype=np.int64
    )  # the least of everything: 57-4-2, its squares
    genome[0, genes["weight_bits_1"]] = 2
    population = space.decode(space.canonicalize(genome))
    (candidate,) = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    (network,) = train_population([candidate], arrays, TrainingOptions(epochs=2), seed=1).networks
    trigger = trigger_of(network, arrays, output_values(network, arrays.x_test))
    return arrays, network, trigger, with_trigger(network, trigger.threshold_word)


def efficiencies(arrays, fires):
    """By signal, from what fired, event for event."""
    labels, names = arrays.events.labels, arrays.events.names
    return {name: float(fires[labels == i].mean()) for i, name in enumerate(names) if i}


def test_the_bit_fires_where_the_score_reaches_the_threshold_in_every_form_without_a_compiler():
    arrays, network, trigger, bit = small_trigger()
    words = network.input_words(arrays.x_test)
    fires = run_words(network, words)[:, 0] >= trigger.threshold_word
    assert 0 < fires.sum() < len(fires)
    found = {
        "reference": run_words(bit, words),
        "torch": run_torch(bit, words),
        "onnx": onnx_form(export_onnx(bit).content, "the export").run(words),
        "qonnx": run_qonnx(export_qonnx(bit), bit, words),
        "alkaid": run_trace(trace_network(bit), bit, words),
    }
    for name, got in found.items():
        assert np.array_equal(got[:, 0], fires), name
    assert bit.digest != network.digest and bit.output_format.to_hls().startswith("ap_ufixed<1,1")
    # what the bits alone are worth is what the threshold promised
    judged = judge_outputs(found["reference"].astype(np.float64), arrays)["events"]
    own = np.mean([efficiencies(arrays, fires)[name] for name in arrays.events.names[1:]])
    assert judged.score == pytest.approx(own, abs=1e-12)
    assert efficiencies(arrays, fires) == pytest.approx(trigger.efficiency, abs=1e-12)
    with pytest.raises(DesignError, match="is a trigger bit already"):
        with_trigger(bit, 0)


@pytest.mark.slow
def test_efficiency_at_the_rate_is_one_number_from_emulator_rtl_and_hls(tmp_path):
    arrays, network, trigger, bit = small_trigger()
    words = bit.input_words(arrays.x_test)
    rtl = verilog_form(export_rtl(bit), tmp_path / "rtl", optimize=False)
    c_simulation = build_c_simulation(export_hls4ml(bit), bit, tmp_path / "hls", optimize=False)
    found = {
        "emulator": emulated_outputs(bit, words, tmp_path / "emulator"),
        "rtl": rtl.run(words),
        "hls4ml": c_simulation.run(words),
    }
    expected = run_words(bit, words)
    for name, got in found.items():
        assert np.array_equal(got, expected), name  # event for event
        assert efficiencies(arrays, got[:, 0]) == pytest.approx(trigger.efficiency, abs=1e-12)


def test_one_logit_of_two_classes_has_a_threshold_of_its_own():
    data = load_task("jets", {"n_test_max": 500})
    labels = (data.y_test > 0).astype(np.int64)
    head = make_head(
        "top", "binary", ("rest", "top"),
        options=HeadOptions(name="top", metric={"name": "tpr_at_fpr", "fpr": 0.2}),
    )  # fmt: skip
    x = np.zeros((500, 2), dtype=np.float32)
    arrays = TaskArrays(
        x_train=x, y_train=labels, x_test=x, y_test=labels, target=Target(heads=(head,))
    )
    outputs = (labels + 2 * np.random.default_rng(0).standard_normal(500))[:, None]
    outputs = np.floor(outputs * 32) / 32
    network = SimpleNamespace(output_format=FixedPoint.from_hls("ap_fixed<12,7,AP_TRN,AP_SAT>"))
    trigger = trigger_of(network, arrays, outputs)
    fires = outputs[:, 0] * 32 >= trigger.threshold_word
    assert fires[labels == 0].mean() <= 0.2
    assert trigger.efficiency == {"top": pytest.approx(fires[labels == 1].mean())}


def test_a_bit_without_a_rate_is_refused_by_name():
    with pytest.raises(ConfigError, match="export.trigger_bit: task level1 sets no threshold"):
        require_rate(load_task("level1"))
    with pytest.raises(ConfigError, match="task jets sets no threshold: expected one output"):
        require_rate(load_task("jets"))
    require_rate(load_task("level1", {"judged_by": {"name": "tpr_at_fpr", "fpr": 0.05}}))
