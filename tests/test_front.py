"""The front of a study: one figure from its best source, filters, and the design to export."""

import re

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import StudyError
from codesign.front import Limits, designs_of, pick
from codesign.results import (
    BudgetFacts,
    Choice,
    Evidence,
    Exported,
    FrontPoint,
    Interval,
    Preparation,
    ScoreKind,
    Search,
    SpaceFacts,
    Synthesized,
    Training,
)
from codesign.stages.export import broken_limits, choose_design
from codesign.study import Study, StudyConfig
from tests.test_choosing import design

PREPARATION = Preparation(
    task={
        "digest": "d" * 64,
        "benchmark": "b",
        "n_train": 2000,
        "n_test": 400,
        "feature_names": ["a", "b"],
        "target": [{"name": "class", "outputs": ["x", "y"]}],
    },
    scaling={},
    space=SpaceFacts(name="x", log10_size=3.0, feasible_share=0.5),
    device={"name": "x", "part": "xcvu13p-flga2577-2-e"},
    budget=BudgetFacts(name="x", limits={}, tool_stage="implemented", source="none"),
    coefficients="shipped",
)
DIGESTS = [f"{i:012x}" for i in range(6)]


def point(i, lut, score, flow="rtl"):
    return FrontPoint(
        digest=DIGESTS[i],
        genome=[i],
        layers=["dense_1: units 4"],
        flow=flow,
        io_type="io_parallel",
        score=score,
        score_std=0.01,
        clock_mhz=360.0,
        latency_cycles=3.0,
        latency_ns=8.3,
        lut=lut,
        ff=lut,
        dsp=0.0,
        bram_18k=0.0,
        utilization=0.01,
    )


def trained(i, lut, score, **options):
    costs = {
        name: Interval(value=value, low=value / 2, high=value * 2)
        for name, value in {"lut": lut, "ff": 10.0, "dsp": 0.0, "latency_ns": 9.0}.items()
    }
    return design(i, lut, score, **options).model_copy(
        update={"predicted": costs, "predicted_with_weights": costs}
    )


@pytest.fixture
def study(tmp_path):
    """Five points, of which two are trained, one of these synthesized and exported."""
    made = Study.at(tmp_path / "s", StudyConfig(name="s")).begin()
    points = [point(i, 100.0 * 2**i, 0.60 + 0.03 * i) for i in range(5)]
    made.record(
        "search_1",
        Search(
            n_labels=8, n_evaluations=9, n_feasible=9, front_genomes=[], to_label=[], points=points
        ),
    )
    for item in (trained(1, 210.0, 0.62), trained(3, 790.0, 0.70)):
        made.weights_file(item.digest).write_bytes(b"")
        made.record_beside(item.digest, item)
    made.record("prepare", PREPARATION)
    made.record("train", Training(finalists=[DIGESTS[1], DIGESTS[3]], baselines=[]))
    made.record("choose", Choice(winner=DIGESTS[3], reason="", against_trivial="", steadiness=""))
    made.record_beside(
        DIGESTS[3],
        Synthesized(
            network_digest=DIGESTS[3],
            tool="yosys",
            lut=850,
            ff=12,
            dsp=0,
            bram_18k=0,
            predicted={},
        ),
    )
    made.record_beside(
        DIGESTS[3],
        Exported(
            network_digest=DIGESTS[3],
            folder="f",
            verdict="",
            comparisons={},
            input_audit={},
            emulated={"latency_ns": 11.1},
            emulated_score=0.7,
            skipped={},
        ),
    )
    return made


def test_every_design_stands_once_with_its_best_known_figures(study):
    designs = designs_of(study)
    assert sorted(d.digest for d in designs) == DIGESTS[:5]
    assert [d.state for d in designs] == ["trained"] * 2 + ["predicted"] * 3
    winner = next(d for d in designs if d.is_winner)
    assert winner.digest == DIGESTS[3]
    assert (winner.figures["lut"].value, winner.figures["lut"].evidence) == (850, "synthesized")
    assert winner.figures["latency_ns"].evidence == Evidence.EMULATED
    other = designs[0]
    assert other.figures["lut"].evidence == Evidence.PREDICTED_WITH_WEIGHTS
    assert other.figures["lut"].high == 420
    assert all(d.figures["lut"].evidence == Evidence.PREDICTED for d in designs[2:])


def test_figures_of_other_weights_do_not_count(study):
    """A design trained again keeps nothing that was synthesized of its old weights."""
    again = trained(3, 790.0, 0.70).model_copy(update={"network_digest": "other"})
    study.record_beside(DIGESTS[3], again)
    winner = next(d for d in designs_of(study) if d.is_winner)
    assert winner.figures["lut"].evidence == Evidence.PREDICTED_WITH_WEIGHTS
    assert winner.figures["latency_ns"].evidence == Evidence.PREDICTED_WITH_WEIGHTS


def test_the_design_to_export_is_the_best_within_a_cost_or_the_cheapest_above_a_score(study):
    designs = designs_of(study)

    def chosen(**limits):
        return pick(designs, Limits(**limits), where="s").digest

    assert chosen(at_most_lut=1000) == DIGESTS[3]  # trained goes before predicted
    assert chosen(at_most_lut=300) == DIGESTS[1]
    assert chosen(at_most_lut=150) == DIGESTS[0]  # predicted only
    assert chosen(at_least_score=0.61) == DIGESTS[1]
    assert chosen(at_least_score=0.71) == DIGESTS[4]
    with pytest.raises(StudyError, match="cheapest takes 100 LUT, its best scores 0.7200"):
        chosen(at_least_score=0.9)


def test_a_score_that_is_better_the_smaller_is_shown_as_people_read_it_and_limits_turn_around(
    study,
):
    """Kept scores are turned so that larger is better: -0.4 is an error of 0.4."""
    study.record(
        "prepare",
        PREPARATION.model_copy(
            update={"score": ScoreKind(name="mean absolute error", higher_is_better=False)}
        ),
    )
    search = study.results().require(Search)
    points = [p.model_copy(update={"score": p.score - 1.0}) for p in search.points]
    study.record("search_1", search.model_copy(update={"points": points}))
    predicted = [d for d in designs_of(study) if d.state == "predicted"]
    assert [d.score for d in predicted] == pytest.approx([0.40, 0.34, 0.28])
    assert pick(predicted, Limits(at_least_score=0.35), where="s").digest == DIGESTS[2]
    assert pick(predicted, Limits(at_most_lut=450), where="s").digest == DIGESTS[2]


def test_naming_what_is_not_there_leaves_no_folder(study):
    before = sorted(study.folder.rglob("*"))
    for arguments in ({"candidate": "f" * 12}, {"at_least_score": 0.99}):
        with pytest.raises(StudyError):
            choose_design(study, **arguments)
    assert choose_design(study) == DIGESTS[3]
    assert sorted(study.folder.rglob("*")) == before


def test_limits_that_a_design_misses_after_all_are_said(study):
    assert broken_limits(study, DIGESTS[3], at_most_lut=900, at_least_score=0.6) == []
    (note,) = broken_limits(study, DIGESTS[3], at_most_lut=800, at_least_score=None)
    assert "850 LUT (synthesized), more than the 800" in note


def test_the_verb_filters(study):
    def lines(*options):
        result = CliRunner().invoke(build_app(), ["front", str(study.folder), *options])
        assert result.exit_code == 0, result.output
        return [d for d in DIGESTS if d in result.output]

    assert lines() == DIGESTS[:5]
    assert lines("--trained") == [DIGESTS[1], DIGESTS[3]]
    assert lines("--at-most-lut", "250", "--json") == [DIGESTS[0], DIGESTS[1]]
    assert lines("--at-least-score", "0.65") == DIGESTS[2:5]


def test_a_long_front_prints_a_part_and_says_how_many_more_there_are(study):
    points = [
        point(0, 100.0 * 1.05**i, 0.6 + 0.001 * i).model_copy(update={"digest": f"{i:012x}"})
        for i in range(5, 65)
    ]
    found = study.results().require(Search)
    study.record("search_1", found.model_copy(update={"points": [*found.points, *points]}))

    def printed(*options):
        return CliRunner().invoke(build_app(), ["front", str(study.folder), *options]).stdout

    def listed(text):
        return re.findall(r"\b[0-9a-f]{12}\b", text)

    part, whole = printed(), printed("--most", "0")
    assert len(listed(part)) == 2 + 20 and "43 more predicted designs" in part
    assert len(listed(whole)) == 2 + 63 and "more predicted designs" not in whole
    ends = {DIGESTS[1], DIGESTS[3], DIGESTS[0], points[-1].digest}
    assert ends <= set(listed(part)) <= set(listed(whole))
    assert len(listed(printed("--most", "1", "--trained"))) == 2
    assert printed("--json").count('"state": "predicted"') == 63
