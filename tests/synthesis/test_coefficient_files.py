"""A user's coefficients: every version kept, none lost by the next, all designs accounted for."""

import json
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import CalibrationError
from codesign.synthesis import calibration, coefficient_files
from codesign.synthesis.estimates import open_coefficients
from hw_models.calibration import calibrate, estimate_records, load_coefficients
from hw_models.records import record_json
from tests.hw_models.user_factory import USERS, UserLaw, user_records
from tests.synthesis.report_factory import write_project, write_reports

OTHER = UserLaw(part="xc7z020clg400-1", lut_per_bit=2.6)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    # how finely designs are held out is not the point here
    monkeypatch.setattr(sys.modules["hw_models.calibration.calibrate"], "MAX_FOLDS", 3)


def _write(path, records):
    path.write_text("".join(json.dumps(record_json(record)) + "\n" for record in records))
    return path


def _run(*arguments):
    result = CliRunner().invoke(build_app(), ["calibrate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def one():
    return user_records(USERS["frugal"], 10, seed=1)


@pytest.fixture(scope="module")
def other():
    return user_records(OTHER, 8, seed=2)


def _lut(record, coefficients):
    return estimate_records([record], "csynth", coefficients)[0]["lut"]


def test_a_second_calibration_keeps_the_first(tmp_path, one, other):
    first = calibration.run_calibration([_write(tmp_path / "a.jsonl", one)])
    assert first.output is not None
    assert first.output.parent == tmp_path / "config" / "codesign" / "coefficients"
    (probe,) = user_records(USERS["frugal"], 1, seed=3)
    shipped, after_first = (
        _lut(probe, c) for c in (load_coefficients(), open_coefficients(None)[0])
    )
    assert after_first["value"] < 0.9 * shipped["value"]
    second = calibration.run_calibration([_write(tmp_path / "b.jsonl", other)])
    assert second.start == "where your version 1 started, with its 10 designs kept"
    assert [d.is_new for d in second.designs] == [False] * 10 + [True] * 8
    after_second = _lut(probe, open_coefficients(None)[0])
    assert after_second["value"] == pytest.approx(after_first["value"], rel=0.15)
    # the corpus alone, which speaks of another tool: still nothing is lost
    calibration.run_calibration([])
    assert _lut(probe, open_coefficients(None)[0]) == after_second
    assert coefficient_files.version_in_use() == 3


def test_in_two_goes_or_in_one_comes_to_the_same(tmp_path, monkeypatch):
    # without what a version in use may keep, which depends on the order
    monkeypatch.setattr(calibration, "_with_kept_targets", lambda result, *_: result)
    one = user_records(USERS["frugal"], 14, seed=1)
    half = [_write(tmp_path / f"{i}.jsonl", one[i::2]) for i in range(2)]
    calibration.run_calibration(half[:1])
    twice = calibration.run_calibration([half[1], half[0]])  # the first half again: counted once
    assert len(twice.designs) == 14
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    once = calibration.run_calibration([_write(tmp_path / "all.jsonl", [*one[::2], *one[1::2]])])
    assert twice.coefficients.factors == once.coefficients.factors
    assert twice.coefficients.intervals == once.coefficients.intervals
    # and what one flow knows stays, bit for bit, when only others have news
    again = calibration.run_calibration([])
    assert again.coefficients.outside.factors == once.coefficients.factors or (
        again.coefficients.factors == once.coefficients.factors
    )
    assert sum("csynth" in design.used_for for design in again.designs) == 14


def test_versions_can_be_listed_and_taken_back(tmp_path, one, other):
    a, b = _write(tmp_path / "a.jsonl", one), _write(tmp_path / "b.jsonl", other)
    _run(a)
    _run(b)
    listed = json.loads(_run("--history", "--json").stdout)
    assert [(v["version"], v["is_in_use"]) for v in listed] == [(0, False), (1, False), (2, True)]
    assert listed[1]["n_records"] == 10
    assert listed[1]["covers"]["parts"] == ["xcvu13p-flga2577-2-e"]
    assert "xcvu13p" in _run("--history").stdout.replace("\n", "")
    _run("--revert")
    assert coefficient_files.path_in_use() == coefficient_files.version_path(1)
    _run("--revert", "0")
    assert coefficient_files.path_in_use() is None
    assert open_coefficients(None)[1] == "shipped with codesign"
    _run("--revert", "2")
    assert coefficient_files.version_in_use() == 2
    with pytest.raises(CalibrationError, match="no version 7"):
        coefficient_files.use_version(7)
    # going back loses nothing: the next version gets a number of its own
    _run("--revert", "1")
    assert calibration.run_calibration([b]).output == coefficient_files.version_path(3)
    assert coefficient_files.version_path(2).is_file()


def test_a_choice_that_is_gone_is_named(tmp_path, one):
    path = calibration.run_calibration([_write(tmp_path / "a.jsonl", one)]).output
    path.unlink()
    with pytest.raises(CalibrationError, match="names version '1', which is not there"):
        open_coefficients(None)


def test_without_kept_reports_the_version_itself_is_the_start(tmp_path, one, other):
    calibration.run_calibration([_write(tmp_path / "a.jsonl", one)])
    coefficient_files.records_path(1).unlink()
    run = calibration.run_calibration([_write(tmp_path / "b.jsonl", other)])
    assert run.start.startswith("your version 1, whose reports are not at")
    (probe,) = user_records(USERS["frugal"], 1, seed=3)
    first = load_coefficients(coefficient_files.version_path(1))
    assert _lut(probe, run.coefficients) == _lut(probe, first)  # outside what the second speaks for


def test_a_dry_run_writes_nothing(tmp_path, one):
    result = _run(_write(tmp_path / "a.jsonl", one), "--dry-run")
    assert "a dry run: nothing was written" in result.stdout
    assert not (tmp_path / "config").exists()


def test_every_design_is_accounted_for(tmp_path, one):
    records = [record_json(record) for record in one]
    records[0]["layers"] = []
    records[1]["layers"][0]["type"] = "Mystery"
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in (*records, {"schema": 9})))
    broken = write_project(tmp_path / "p")
    write_reports(broken / "myproject_prj" / "solution1", part="xc7z020clg400-1")
    run = calibration.run_calibration([path, broken], is_dry=True)
    value = calibration.run_json(run)
    assert (value["n_designs"], value["n_used"]) == (10, 8)
    by_id = {design["id"]: design for design in value["designs"]}
    assert "no architecture" in by_id[records[0]["id"]]["reason"]
    assert "Mystery" in by_id[records[1]["id"]]["reason"]
    assert by_id[records[2]["id"]]["used_for"] == ["csynth"]
    assert sum(result.n_records for result in run.results.values()) == value["n_used"]
    assert len(value["rejected"]) == 2
    text = "\n".join(calibration.accounting(run))
    assert "10 designs: 10 read now, 0 kept from before; 8 used, 2 not" in text
    assert "1 not used: no architecture" in text
    assert "synthesise again" in text


def test_a_relative_configuration_folder_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert coefficient_files.coefficients_folder().is_absolute()
    assert "relative" not in str(coefficient_files.coefficients_folder())


def test_what_contradicts_the_law_is_said_to_do_so(tmp_path, one):
    records = [record_json(record) for record in one]
    for record, part in ((records[0], records[0]["part"]), (records[1], "xc7z020clg400-1")):
        record["csynth"] |= {"interval_cycles_min": 30_000, "interval_cycles_max": 30_000}
        record["part"] = part
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    run = calibration.run_calibration([path], is_dry=True)
    reasons = {design.id: design.reason for design in run.designs}
    for record in records[:2]:  # the second is the only one of its flow
        assert (
            "its interval of 30,000 cycles contradicts the law's 1 by 30000x"
            in reasons[record["id"]]
        )
    assert sum(not reason for reason in reasons.values()) == 8


def test_what_the_version_in_use_knows_is_kept_if_it_holds_for_new_designs(one):
    in_use = calibrate(one).coefficients
    start = calibration._Start(
        coefficients=load_coefficients(), earlier=one, words="", file="shipped", in_use=in_use
    )
    refused = replace(
        calibrate(one), coefficients=load_coefficients(), is_better=False,
    )  # fmt: skip
    errors = {m: replace(error, is_accepted=False) for m, error in refused.errors.items()}
    refused = replace(refused, errors=errors)
    ((flow, _),) = calibration._flows(one).items()
    alike = user_records(USERS["frugal"], 4, seed=11)
    unlike = user_records(replace(USERS["frugal"], lut_per_bit=5.0, ff_per_bit=6.0), 4, seed=11)
    kept = calibration._with_kept_targets(refused, start, flow, alike)
    assert kept.is_better
    assert kept.coefficients.factors["lut"] == in_use.factors["lut"]
    assert kept.coefficients.intervals["lut"] == in_use.intervals["lut"]
    assert kept.coefficients.scope == in_use.scope
    assert calibration._with_kept_targets(refused, start, flow, unlike) is refused
    assert calibration._with_kept_targets(refused, start, flow, []) is refused
