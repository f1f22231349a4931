"""A whole study, small, in this process: what every stage records is computed again in another way."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from codesign.encoding.population import encode_population
from codesign.errors import StudyError
from codesign.export.bundle import load_export
from codesign.export.rtl import solve_network
from codesign.hardware.scorer import limits, violations
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words, typed
from codesign.pipeline import STAGES, run_study
from codesign.predictor.base import load_predictor
from codesign.report.summary import summarize
from codesign.report.table import number
from codesign.reporter import SilentReporter
from codesign.results import Choice, Export, Fit, Labels, Preparation, Search, Training
from codesign.search.archive import archive_of
from codesign.space import population_from_candidates
from codesign.stages import export as export_stage
from codesign.stages import setting as setting_module
from codesign.stages.choosing import choose_spread
from codesign.stages.fit import labelled
from codesign.stages.search import _informative_genomes, n_evaluations_of
from codesign.stages.setting import PredictorScore, make_problem, open_setting
from codesign.stages.train import train_on_demand, train_points
from codesign.study import Study, StudyConfig
from codesign.training.options import TrainingOptions, architecture_digest
from codesign.training.train import split_rows

CONFIG = StudyConfig.model_validate(
    {
        "name": "small",
        "space": "mlp_tiny",
        "seed": 3,
        "task": {"source": "jets", "options": {"n_train_max": 2000, "n_test_max": 400}},
        "labels": {"n_initial": 12, "n_per_round": 3, "epochs": 1, "predictor": "ridge"},
        "search": {
            "n_evaluations": 301, "n_rounds": 2, "strategy": "nsga2", "population_size": 40,
        },
        "train": {"n_finalists": 3, "epochs": 2, "n_splits": 2},
        "export": {"open_synthesis": False},
    }
)  # fmt: skip


class Recorder(SilentReporter):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The study, run to its end in this process, without compilers; its reporter has heard everything."""
    with pytest.MonkeyPatch.context() as patch:
        for tool in ("GXX", "MAKE", "PERL", "VERILATOR", "GHDL"):
            patch.setenv(f"CODESIGN_{tool}", f"/nonexistent/{tool.lower()}")
        patch.setattr(setting_module, "open_pool", lambda *_, **__: nullcontext(None))
        folder = tmp_path_factory.mktemp("study") / "small"
        study = Study.at(folder, CONFIG).begin()
        reporter = Recorder()
        run_study(study, reporter=reporter)
        yield open_setting(study, reporter)


@pytest.fixture(scope="module")
def results(setting):
    return setting.study.results()


@pytest.fixture(scope="module")
def arrays(setting):
    return setting.arrays()


def finalists(setting, results):
    """The trained designs, the cheapest first."""
    known = setting.study.designs()
    return [known[digest] for digest in results.require(Training).finalists]


def accuracy(network, x, y):
    """Share of rows whose greatest output word is that of their class."""
    outputs = run_words(network, network.input_format.words_from_values(np.asarray(x, np.float64)))
    return float(np.mean(outputs.argmax(axis=1) == y))


def network_of(setting, design):
    return QuantizedNetwork.load(setting.study.weights_file(design.digest))


def test_every_stage_leaves_its_result(setting, results):
    assert set(dict(results.items())) == {
        "prepare", "label_1", "fit_1", "search_1", "label_2", "fit_2", "search_2", "train",
        "synthesize", "choose", "export", "report",
    }  # fmt: skip
    assert all(result.seconds >= 0 and result.depends_on for _, result in results.items())
    assert set(STAGES) >= {"prepare", "search", "report"}


def test_preparation_states_the_budget_and_counts_what_fits(setting, results):
    facts = results.require(Preparation)
    assert facts.budget.limits == limits(setting.budget, setting.device)
    assert facts.budget.tool_stage == setting.scorer.stage
    genomes = setting.space.sample(4000, np.random.default_rng(0))
    scores = setting.scorer.score(setting.space.decode(genomes))
    fits = (violations(scores, setting.budget, setting.device) <= 0).all(axis=1)
    assert facts.space.feasible_share == pytest.approx(fits.mean(), abs=0.06)  # of two samples
    assert 0 < facts.space.feasible_share <= 1
    assert facts.task["n_train"] == 2000 and facts.task["n_test"] == 400


def test_first_labels_fit_differ_and_are_those_of_training(setting, results):
    first, second = results.of(Labels)
    assert len(first.genomes) == len(first.scores) == 12
    candidates = setting.candidates(first.genomes)
    assert len({architecture_digest(c.network) for c in candidates}) == 12
    scores = setting.scorer.score(setting.space.decode(setting.genomes(first.genomes)))
    assert (scores.metrics["lut"].value < limits(setting.budget, setting.device)["lut"]).all()
    # chance is 0.2; one epoch on 1,600 jets is more than that, and no more than good training
    assert 0.2 < np.mean(first.scores) < 0.75
    assert second.genomes == results.of(Search)[0].to_label
    # a spread over size of those of 4,000 random pairs that fit
    generator = np.random.default_rng([CONFIG.seed, 1])
    drawn = setting.space.sample(4000, generator)
    scores = setting.scorer.score(setting.space.decode(drawn))
    fitting = drawn[(violations(scores, setting.budget, setting.device) <= 0).all(axis=1)]
    rows = choose_spread(setting.space.decode(fitting), 12, generator)
    assert first.genomes == fitting[rows].tolist()


def test_the_predictor_is_judged_on_what_it_never_saw(setting, results):
    for fit, n_labels in zip(results.of(Fit), (12, 15), strict=True):
        assert fit.n_held_out == 4 and fit.n_train == n_labels - 4
        assert fit.method == "ridge"
        first = results.of(Labels)[0]
        assert fit.held_out.label == first.scores[:4]
        round_index = 1 if n_labels == 12 else 2
        predictor, _ = load_predictor(setting.study.predictor_file(round_index))
        candidates = setting.candidates(first.genomes[:4])
        again = predictor.predict(encode_population(population_from_candidates(candidates)))
        assert fit.held_out.mean == pytest.approx(again.mean)
        assert fit.held_out.std == pytest.approx(again.std)


def test_a_round_evaluates_its_share_and_keeps_what_nothing_dominates(setting, results):
    assert [n_evaluations_of(CONFIG.search, i) for i in (1, 2)] == [151, 150]
    for i, found in enumerate(results.of(Search), start=1):
        assert found.n_evaluations == n_evaluations_of(CONFIG.search, i)
        assert 0 < len(found.front_genomes) <= found.n_feasible <= found.n_evaluations
        predictor, _ = load_predictor(setting.study.predictor_file(i))
        problem = make_problem(setting, PredictorScore(predictor=predictor))
        genomes = setting.genomes(found.front_genomes)
        archive = archive_of(problem, genomes, problem.evaluate(genomes))
        assert len(archive) == len(genomes)  # all feasible, none dominated
    assert results.of(Search)[0].n_labels == 12 and results.of(Search)[1].n_labels == 15


def test_the_front_is_described_by_what_predictor_and_cost_models_say(setting, results):
    first, last = results.of(Search)
    assert first.points == [] and last.to_label == []
    assert len(last.points) == len(last.front_genomes)
    assert [p.score for p in last.points] == sorted((p.score for p in last.points), reverse=True)
    genomes = [p.genome for p in last.points]
    candidates = setting.candidates(genomes)
    population = population_from_candidates(candidates)
    predictor, _ = load_predictor(setting.study.predictor_file(2))
    predicted = predictor.predict(encode_population(population))
    scores = setting.scorer.score(population)
    for i, point in enumerate(last.points):
        assert point.digest == candidates[i].digest
        assert (point.flow, point.io_type) == (candidates[i].hardware.flow, "io_parallel")
        assert point.clock_mhz == pytest.approx(1000 / candidates[i].hardware.clock_period_ns)
        assert point.score == pytest.approx(predicted.mean[i])
        for name in ("lut", "ff", "dsp", "bram_18k", "latency_ns", "latency_cycles"):
            assert getattr(point, name) == pytest.approx(scores.metrics[name].value[i]), name
        assert point.utilization == pytest.approx(scores.utilization[i])
        network, hardware = candidates[i].network, candidates[i].hardware
        assert len(point.layers) == len(network.nodes)
        for node, line in zip(network.nodes, point.layers, strict=True):
            name, _, facts = line.partition(": ")
            assert name == node.name and bool(facts) == bool(node.parameters)
            assert all(f"{k.replace('_', ' ')} {v:g}" in facts for k, v in node.parameters.items())
            if node.name in hardware.reuse_factor:
                assert facts.endswith(f"reuse factor {hardware.reuse_factor[node.name]}")


def test_the_run_says_what_it_found_and_what_it_left_out(setting, results):
    said = setting.reporter.said
    facts = setting.study.exported(setting.study.designs()[results.require(Export).digest])
    skipped = [text for text in said if text.startswith("not exported: ")]
    assert skipped == [
        f"not exported: {n}: {why}" for n, why in load_skipped(setting, facts).items()
    ]
    assert sum(text.startswith("round ") and "Kendall tau" in text for text in said) == 2
    assert any("pairs" in text and "fit" in text for text in said)


def load_skipped(setting, facts):
    """What exporting the winner anew leaves out."""
    exported = load_export(setting.study.folder / facts.folder)
    return exported.skipped


def test_the_network_kept_is_the_one_that_beats_the_trivial_answer_by_most(
    setting, results, arrays
):
    training = results.require(Training)
    easy = np.array(training.baselines[-1].validation.splits)
    for design in finalists(setting, results):
        network = network_of(setting, design)
        found = []
        for split in range(CONFIG.train.n_splits):
            _, rows = split_rows(len(arrays.y_train), TrainingOptions().validation_fraction, split)
            found.append(accuracy(network, arrays.x_train[rows], arrays.y_train[rows]))
        best = int(np.argmax(np.array(design.validation.splits) - easy))
        # it answers its own validation rows as recorded, and was trained on those of the other
        assert found[best] == pytest.approx(design.validation.splits[best])


def test_any_point_of_the_front_is_trained_when_it_is_asked_for(setting, results):
    known = set(results.require(Training).finalists)
    point = next(p for p in results.of(Search)[-1].points if p.digest not in known)
    design = train_on_demand(setting, point.digest)
    assert design.digest == point.digest == setting.candidates([design.genome])[0].digest
    assert design.genome == point.genome and design.predicted_score.mean == point.score
    assert design.digest in setting.study.designs()
    with pytest.raises(StudyError, match="no design 'abcdef123456' on its front"):
        train_on_demand(setting, "abcdef123456")


def test_the_labels_asked_for_are_those_that_promise_most(setting, results):
    """Expected improvement by simulation: every pick beats what was left out, one pick after another."""
    found = results.of(Search)[0]
    predictor, _ = load_predictor(setting.study.predictor_file(1))
    problem = make_problem(setting, PredictorScore(predictor=predictor))
    genomes = setting.genomes(found.front_genomes)
    archive = archive_of(problem, genomes, problem.evaluate(genomes))
    known = labelled(setting, replace_results(results))
    picks = _informative_genomes(setting, archive, known, 3)
    assert picks.tolist() == found.to_label

    trained = setting.scorer.score(population_from_candidates([c for _, c in known]))
    costs = np.stack([archive.metrics["lut"], archive.metrics["latency_ns"]], axis=1)
    labels = np.array([label for label, _ in known])
    label_costs = np.stack([trained.metrics[n].value for n in ("lut", "latency_ns")], axis=1)
    done = {architecture_digest(c.network) for _, c in known}
    digests = [architecture_digest(c.network) for c in setting.candidates(archive.genomes)]
    mean, std = archive.metrics["score"], archive.metrics["score_std"]
    worst = min(mean.min(), labels.min()) - std.max()
    draws = mean + std * np.random.default_rng(0).normal(size=(4000, 1))

    def gain(i, points):
        floor = max((s for s, cost in points if (cost <= costs[i]).all()), default=worst)
        return np.maximum(draws[:, i] - floor, 0).mean()

    points = list(zip(labels, label_costs, strict=True))
    rows = [archive.genomes.tolist().index(pick) for pick in picks.tolist()]
    gains = [gain(i, points) if digests[i] not in done else 0.0 for i in range(len(mean))]
    # the draws are good to some percent
    assert gains[rows[0]] >= 0.9 * max(gains)
    assert gains[rows[0]] > np.median(gains)
    assert not done & {digests[i] for i in rows}
    assert len({digests[i] for i in rows}) == len(rows)
    # with nothing known, those predicted best
    best = _informative_genomes(setting, archive, [], 2)
    top = np.sort(mean)[-2:]
    assert sorted(mean[archive.genomes.tolist().index(g)] for g in best.tolist()) == list(top)


def replace_results(results):
    """The results up to the first search."""
    return SimpleNamespace(of=lambda kind: results.of(kind)[:1])


def test_finalists_are_trained_scored_and_priced_as_recorded(setting, results, arrays):
    designs = finalists(setting, results)
    front = {p.digest: p for p in results.of(Search)[-1].points}
    assert 1 <= len(designs) <= 3
    best = max(p.score for p in front.values())
    for design in designs:
        network = network_of(setting, design)
        assert network.digest == design.network_digest
        hardware = network.candidate.hardware
        of_genome = setting.candidates([design.genome])[0]
        assert of_genome.digest == design.digest
        assert replace(network.candidate, hardware=of_genome.hardware) == of_genome
        # in plain RTL it is cut for the clock of the space that suits its logic
        clocks = {figure.clock_mhz: figure for figure in design.clocks}
        assert bool(clocks) == (hardware.flow == "rtl")
        if clocks:
            own = clocks[design.clock_mhz].latency_ns
            assert own == pytest.approx(design.predicted_with_weights["latency_ns"].value)
            assert own == pytest.approx(min(figure.latency_ns for figure in clocks.values()))
        assert design.test.value == pytest.approx(accuracy(network, arrays.x_test, arrays.y_test))
        assert design.test.value > 0.25
        point = front[design.digest]
        assert point.score >= best - 0.015
        assert design.predicted_score.mean == point.score
        # between what was predicted and what was seen on the validation rows
        low, high = sorted((point.score, design.validation.value))
        assert low <= design.estimated.value <= high
        assert design.validation.value == pytest.approx(np.mean(design.validation.splits))
        (head,) = design.heads.values()
        assert head.score == pytest.approx(design.test.value)
        p = design.test.value
        assert head.error == pytest.approx((p * (1 - p) / 400) ** 0.5, rel=0.01)
        assert design.test.standard_error == pytest.approx(head.error)
        for name, figure in design.predicted.items():
            assert figure.low <= figure.value <= figure.high, name
        assert design.predicted["lut"].value == pytest.approx(point.lut)
        scores = setting.scorer.score_quantized([network], solve=solve_network)
        for name in ("lut", "ff", "latency_ns"):
            figure = design.predicted_with_weights[name]
            assert figure.value == pytest.approx(scores.metrics[name].value[0])
            assert figure.low == pytest.approx(scores.metrics[name].low[0])
            assert figure.high == pytest.approx(scores.metrics[name].high[0])
        assert design.fits == (design.worst_excess <= 0)
        assert design.clock_mhz == pytest.approx(1000 / network.candidate.hardware.clock_period_ns)


def test_nodes_are_described_with_their_share_of_the_cost(setting, results):
    for design in finalists(setting, results):
        network = network_of(setting, design)
        sites = {site.node.name: site for site in typed(network)}
        assert [node.name for node in design.nodes] == list(sites)
        for node in design.nodes:
            site = sites[node.name]
            assert (node.layer, node.inputs) == (site.node.layer, list(site.node.inputs))
            assert node.width == site.output.size and node.bits == str(site.output.format.bits)
            sign = "" if site.output.format.signed else "u"
            assert node.format == f"{sign}fixed<{node.bits},{site.output.format.integer_bits}>"
            if "weight" in site.constants:
                zeros = float((site.constants["weight"].values == 0).mean())
                assert node.pruned == f"{100 * zeros:.0f} %"
                assert node.strategy == network.candidate.hardware.strategy[node.name]
                assert node.lut > 0
            else:
                assert node.pruned == node.weights == node.strategy == "-"
            if node.layer == "input":
                assert node.lut == node.latency_cycles == 0
        total = sum(node.lut for node in design.nodes)
        assert total == pytest.approx(design.predicted_with_weights["lut"].value, rel=0.35)


def test_the_winner_fits_and_no_cheaper_design_is_clearly_better(setting, results):
    designs = {d.digest: d for d in finalists(setting, results)}
    choice = results.require(Choice)
    winner = designs[choice.winner]
    assert winner.fits

    def lut(design):
        return design.predicted_with_weights["lut"].value

    for other in designs.values():
        if other.fits and lut(other) <= lut(winner):
            error = winner.validation.error_of_difference(other.validation)
            allowed = max(0.004, error, winner.validation.standard_error)
            assert other.estimated.value <= winner.estimated.value + 4 * allowed
    n_fitting = sum(d.fits for d in designs.values())
    assert f"finalists {n_fitting} fit the budget" in choice.reason
    constant, linear = results.require(Training).baselines
    assert constant.validation.value < 0.3 < linear.validation.value
    assert constant.description in choice.against_trivial


def test_the_export_is_of_the_winner_and_compared_on_every_row(setting, results):
    winner = results.require(Export).digest
    assert winner == results.require(Choice).winner
    facts = setting.study.exported(setting.study.designs()[winner])
    exported = load_export(setting.study.folder / facts.folder)
    assert exported.network.digest == setting.study.designs()[winner].network_digest
    ran = {name: c for name, c in facts.comparisons.items() if c.mismatches is not None}
    assert {"torch", "onnxruntime", "qonnx"} <= set(ran)
    assert all(c.mismatches == 0 and c.vectors > 400 + 1000 for c in ran.values())
    assert all("not run" in c.status for n, c in facts.comparisons.items() if n not in ran)
    assert facts.input_audit["n_events"] == 2400
    # no tool, no figure
    assert facts.emulated == {} and facts.emulated_score is None


def test_emulated_figures_are_those_of_the_certificate(setting, results, arrays, monkeypatch):
    """The RTL gives the words of the reference, so its score is that of the quantized network."""
    winner = results.require(Choice).winner
    network = QuantizedNetwork.load(setting.study.weights_file(winner))
    before = setting.study.exported(setting.study.designs()[winner])

    equal = SimpleNamespace(name="rtl", status="equal", mismatches=0, vectors={"test": 1}, note="")

    def certify(exported, **options):
        assert np.array_equal(
            options["test_words"], network.input_format.words_from_values(arrays.x_test)
        )
        return SimpleNamespace(
            latency_cycles=7,
            verdict="equal",
            comparisons=(equal,),
            input_audit={"n_events": 1},
        )

    monkeypatch.setattr(export_stage, "certify", certify)
    facts = export_stage.export_design(
        replace(
            setting,
            study=replace_config(
                setting.study, {"export": {"open_synthesis": False, "rtl": False}}
            ),
        ),
        winner,
    )
    period_ns = network.candidate.hardware.clock_period_ns
    assert facts.emulated == {
        "latency_cycles": 7.0, "latency_ns": pytest.approx(7 * period_ns), "interval_cycles": 1.0,
    }  # fmt: skip
    assert facts.emulated_score == pytest.approx(accuracy(network, arrays.x_test, arrays.y_test))
    setting.study.record_beside(winner, before)


def replace_config(study, change):
    config = StudyConfig.model_validate(CONFIG.model_dump(by_alias=True) | change)
    return Study(folder=study.folder, config=config)


def test_the_summary_and_the_page_say_what_the_results_say(setting, results):
    summary = summarize(setting.study)
    winner = setting.study.designs()[results.require(Choice).winner]
    assert summary["complete"] and summary["winner"]["digest"] == winner.digest
    assert summary["score"]["test"] == winner.test.model_dump()
    assert summary["score"]["validation"]["value"] == pytest.approx(winner.validation.value)
    assert summary["score"]["emulated"] is None
    page = setting.study.report_page.read_text(encoding="utf-8")
    for name in ("lut", "ff", "latency_ns", "latency_cycles"):
        for key, figures in (
            ("predicted", winner.predicted), ("predicted_with_weights", winner.predicted_with_weights),
        ):  # fmt: skip
            assert summary["figures"][name][key] == figures[name].model_dump(), (name, key)
            assert number(summary["figures"][name][key]) in page, (name, key)
    assert winner.predicted["lut"].value > 0
    assert [r["n_labels"] for r in summary["rounds"]] == [12, 15]
    known = {p.digest for p in results.of(Search)[-1].points}
    assert {d["digest"] for d in summary["front"]} == known
    assert len(summary["finalists"]) == len(results.require(Training).finalists)
    assert winner.digest in page and page.index("Verdict") < page.index("Proof")


def test_training_more_finalists_keeps_those_that_are_trained(setting, results):
    """The designs of the study are taken over: same points, same weights, nothing trained."""
    points = {p.digest: p for p in results.of(Search)[-1].points}
    training = results.require(Training)
    chosen = [points[digest] for digest in training.finalists]
    before = [d.network_digest for d in finalists(setting, results)]
    again = train_points(setting, chosen, training.baselines, np.ones(len(chosen)))
    assert [d.network_digest for d in again] == before
