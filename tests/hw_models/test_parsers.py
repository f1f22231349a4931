"""Every report layout gives its numbers back; every defect gives one clear error."""

import gzip
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from codesign.processes import worker_pool
from hw_models.calibration.parsers import ReportError, read_project, read_reports
from hw_models.calibration.parsers.baselines import (
    parse_hls4ml_json,
    parse_oneapi_ndjson,
    parse_quartus_js,
)
from hw_models.calibration.parsers.csynth import parse_cosim_rpt, parse_csynth_rpt, parse_csynth_xml
from hw_models.calibration.parsers.jsonl import read_record_lines
from hw_models.calibration.parsers.numbers import count_of, period_ns_of
from hw_models.calibration.parsers.project import read_weight_words
from hw_models.calibration.parsers.vivado import (
    parse_export_rpt,
    parse_timing_rpt,
    parse_utilization_rpt,
)

_FACTORY = Path(__file__).resolve().parents[1] / "synthesis" / "report_factory.py"
_spec = importlib.util.spec_from_file_location("report_factory", _FACTORY)
assert _spec is not None and _spec.loader is not None
factory = importlib.util.module_from_spec(_spec)
sys.modules["report_factory"] = factory
_spec.loader.exec_module(factory)

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "reports").is_dir(), reason="shared synthesis reports are absent"
)

EXPECTED = {
    "latency_cycles_min": 15, "latency_cycles_max": 15, "interval_cycles_min": 1, "interval_cycles_max": 1,
    "lut": 11694, "ff": 24233, "dsp": 66, "bram_18k": 4,
}  # fmt: skip


def _subset(metrics, expected=EXPECTED):
    return {name: metrics.get(name) for name in expected}


@pytest.mark.parametrize("particulars", [{}, factory.old_vivado()], ids=["vitis", "old vivado"])
def test_xml_and_text_reports_agree(particulars):
    from_xml = parse_csynth_xml(
        factory.fill(factory.CSYNTH_XML, **particulars).encode(), origin="x"
    )
    from_rpt = parse_csynth_rpt(factory.fill(factory.CSYNTH_RPT, **particulars), origin="x")
    assert _subset(from_xml["csynth"]) == _subset(from_rpt["csynth"]) == EXPECTED
    for key in (
        "tool",
        "tool_version",
        "part",
        "top",
        "clock_period_ns",
        "clock_uncertainty_ns",
        "clock_estimated_ns",
    ):
        assert from_xml[key] == from_rpt[key]
    assert from_rpt["modules"][0]["lut"] == 120


@pytest.mark.parametrize(
    ("text", "period_ns"),
    [("5.00", 5), ("5,00 ns", 5), ("5000 ps", 5), ("0.005 us", 5), ("200 MHz", 5)],
)
def test_periods_in_every_unit(text, period_ns):
    assert period_ns_of(text, what="clock") == pytest.approx(period_ns)


@pytest.mark.parametrize("text", ["1.5", "", "1,2", "-3", "12k", "1e4", "nan", "~0"])
def test_counts_refuse_what_is_no_count(text):
    with pytest.raises(ReportError, match="whole number"):
        count_of(text, what="LUT")


def test_counts_take_thousands_marks():
    assert count_of("1,234,567", what="LUT") == 1234567
    assert count_of("-", what="LUT") == 0


def test_utilization_reports_of_both_stages_and_naming_schemes():
    old = parse_utilization_rpt(
        factory.fill(
            factory.UTILIZATION_RPT, prefix="Slice", lut=1526, ff=2428, dsp=66, tiles="0.5"
        ),
        origin="x",
    )
    assert old["stage"] == "vsynth"
    assert old["metrics"] == {"lut": 1526, "ff": 2428, "dsp": 66, "bram_18k": 1}
    placed = parse_utilization_rpt(
        factory.fill(factory.UTILIZATION_RPT, state="Routed"), origin="x"
    )
    assert placed["stage"] == "implemented"
    assert placed["metrics"]["bram_18k"] == 5
    assert placed["metrics"]["state"] == "routed"


def test_export_report_of_old_and_new_hls():
    old = "Device target: xc7z020-clg400-1\n#=== Resource usage ===\nSLICE: 1\nLUT: 90\nFF: 80\nDSP: 7\nBRAM: 2\nSRL: 0\n#=== Final timing ===\nCP required: 10.000\nCP achieved post-synthesis: 3.778\nCP achieved post-implementation: 4.100\n"
    assert parse_export_rpt(old, origin="x")["implemented"] == {
        "lut": 90, "ff": 80, "dsp": 7, "bram_18k": 2, "uram": 0, "clock_achieved_ns": 4.1,
    }  # fmt: skip
    new = old.replace("=== Resource usage", "=== Post-Synthesis Resource usage").replace(
        "post-implementation", "x"
    )
    assert parse_export_rpt(new, origin="x")["vsynth"]["clock_achieved_ns"] == 3.778


def test_timing_summary_gives_slack_and_period():
    found = parse_timing_rpt(factory.fill(factory.TIMING_RPT, wns=-0.5), origin="x")
    assert (found["wns_ns"], found["clock_period_ns"], found["stage"]) == (-0.5, 5.0, None)


def test_cosimulation_that_failed_is_no_measurement():
    assert parse_cosim_rpt(factory.fill(factory.COSIM_RPT), origin="x")["latency_cycles_max"] == 15
    with pytest.raises(ReportError, match="Fail"):
        parse_cosim_rpt(factory.fill(factory.COSIM_RPT, status="Fail"), origin="x")


def test_xml_bombs_and_external_entities_are_refused():
    bomb = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><profile>&b;</profile>'
    external = '<!DOCTYPE l [<!ENTITY e SYSTEM "file:///etc/passwd">]><profile>&e;</profile>'
    for text in (bomb, external):
        with pytest.raises(ReportError, match="refused"):
            parse_csynth_xml(text.encode(), origin="x")


def test_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hw_models.calibration.parsers.folder.MAX_XML_BYTES", 10_000)
    (tmp_path / "csynth.xml.gz").write_bytes(gzip.compress(b" " * 100_000))
    records, rejections = read_reports(tmp_path)
    assert not records
    assert "unpacks to more" in rejections[0].reason


def test_reports_that_count_nothing_are_rejected():
    for numbers, message in (({"lut": 0}, "no LUT"), ({"ff": 0}, "no flip-flop")):
        with pytest.raises(ReportError, match=message):
            parse_csynth_xml(factory.fill(factory.CSYNTH_XML, **numbers).encode(), origin="x")
    wires = factory.fill(factory.CSYNTH_XML, ff=0, latency=0).encode()
    assert parse_csynth_xml(wires, origin="x")["csynth"]["ff"] == 0  # combinational


def test_localised_report_is_named_as_such():
    text = factory.fill(factory.CSYNTH_RPT).replace("Performance Estimates", "Leistungsabschätzung")
    with pytest.raises(ReportError, match="localised"):
        parse_csynth_rpt(text, origin="x")


def test_variable_loops_leave_latency_unknown_not_zero(tmp_path):
    text = factory.fill(factory.CSYNTH_XML, latency="undef")
    assert parse_csynth_xml(text.encode(), origin="x")["csynth"]["latency_cycles_max"] is None
    (tmp_path / "csynth.xml").write_text(text)
    records, _ = read_reports(tmp_path)
    assert "latency_unknown" in records[0]["flags"]


def test_project_is_read_from_its_sources(tmp_path):
    project = read_project(factory.write_project(tmp_path / "p"))
    dense, relu = project["layers"]
    assert (dense["in_shape"], dense["out_shape"], dense["strategy"]) == ([3], [2], "latency")
    assert dense["weight_precision"] == "ap_fixed<8,2>"
    # raw words of 0.25, 0, -0.703125, 1.0, 0.015625, -0.5 on 6 fractional bits: 16, 0, -45, 64, 1, -32
    # digits 1, 0, 4, 1, 1, 1; 45 has 7 signed bits, times 16-bit data: one DSP
    assert (dense["n_zeros"], dense["csd_digits"], dense["n_multipliers"]) == (1, 8, 1)
    assert relu["activation"] == "relu"
    assert relu["in_shape"] == [2]
    assert project["io_type"] == "io_parallel"
    assert project["clock_uncertainty_ns"] == pytest.approx(1.35)


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ReportError, match="another network"):
        read_project(factory.write_project(tmp_path / "p", weights="1, 2, 3"))


def test_project_folder_gives_one_record_with_all_stages(tmp_path):
    folder = factory.write_project(tmp_path / "repo" / "p")
    factory.write_reports(folder / "myproject_prj" / "solution1")
    (folder / "vivado_synth.rpt").write_text(factory.fill(factory.UTILIZATION_RPT, lut=5000))
    impl = folder / "vivado" / "impl_1"
    impl.mkdir(parents=True)
    (impl / "myproject_utilization_placed.rpt").write_text(
        factory.fill(factory.UTILIZATION_RPT, state="Routed", lut=4800)
    )
    (impl / "myproject_timing_summary_routed.rpt").write_text(factory.fill(factory.TIMING_RPT))
    records, rejections = read_reports(tmp_path)
    assert [r.reason for r in rejections] == []
    (record,) = records
    assert record["layers"][0]["type"] == "Dense"
    assert record["csynth"]["lut"] == 11694
    assert record["cosim"]["latency_cycles_max"] == 15
    assert record["vsynth"]["lut"] == 5000
    assert record["implemented"]["lut"] == 4800
    assert record["implemented"]["clock_achieved_ns"] == pytest.approx(4.75)
    assert record["source"] == "repo"
    assert str(tmp_path) not in json.dumps(record)


def test_vitis_run_component_layout(tmp_path):
    report = tmp_path / "component" / "hls" / "syn" / "report"
    report.mkdir(parents=True)
    (report / "csynth.xml").write_text(factory.fill(factory.CSYNTH_XML, version="2025.1"))
    (report / "myproject_csynth.rpt").write_text(factory.fill(factory.CSYNTH_RPT, version="2025.1"))
    records, rejections = read_reports(tmp_path)
    assert not rejections
    assert [r["tool_version"] for r in records] == ["2025.1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "xc7z020clg400-1"}, "for part"),
        ({"clock": "10.0"}, "clock of 10 ns"),
        ({"config": "config9"}, "another network"),
    ],
)
def test_reports_of_another_configuration_are_rejected(tmp_path, change, message):
    folder = factory.write_project(tmp_path / "p")
    factory.write_reports(folder / "myproject_prj" / "solution1", **change)
    records, rejections = read_reports(tmp_path)
    assert not records
    assert message in rejections[0].reason


def test_xml_and_text_of_different_runs_are_rejected(tmp_path):
    (tmp_path / "csynth.xml").write_text(factory.fill(factory.CSYNTH_XML))
    (tmp_path / "myproject_csynth.rpt").write_text(factory.fill(factory.CSYNTH_RPT, lut=1))
    records, rejections = read_reports(tmp_path)
    assert not records
    assert "disagree on lut" in rejections[0].reason


def test_duplicates_count_once(tmp_path):
    for name in ("a", "b"):
        factory.write_reports(
            factory.write_project(tmp_path / name) / "myproject_prj" / "solution1"
        )
    records, rejections = read_reports(tmp_path)
    assert len(records) == 1
    assert "duplicate" in rejections[0].reason


def test_projects_without_reports_and_empty_folders_say_so(tmp_path):
    factory.write_project(tmp_path / "p")
    assert "without any report" in read_reports(tmp_path)[1][0].reason
    (tmp_path / "empty").mkdir()
    assert "no report" in read_reports(tmp_path / "empty")[1][0].reason
    assert "no such file" in read_reports(tmp_path / "missing")[1][0].reason


def test_lone_file_under_any_name_is_recognised_by_its_first_lines(tmp_path):
    path = tmp_path / "mail_attachment.txt"
    path.write_text(factory.fill(factory.CSYNTH_RPT))
    records, rejections = read_reports(path)
    assert not rejections
    assert records[0]["csynth"]["dsp"] == 66


def test_parallel_parsing_gives_the_same_records_in_the_same_order(tmp_path):
    for index in range(60):
        folder = tmp_path / f"p{index:02d}"
        folder.mkdir()
        (folder / "csynth.xml").write_text(factory.fill(factory.CSYNTH_XML, lut=1000 + index))
    steps = []
    serial = read_reports(tmp_path)[0]
    with worker_pool(2) as pool:
        parallel = read_reports(
            tmp_path, executor=pool, progress=lambda done, total: steps.append((done, total))
        )[0]
    assert serial == parallel
    assert [r["csynth"]["lut"] for r in serial] == list(range(1000, 1060))
    assert steps[-1] == (60, 60)


def test_json_baselines_of_xilinx_and_oneapi(tmp_path):
    xilinx = {"CSynthesisReport": {"TargetClockPeriod": "5.00", "EstimatedClockPeriod": "2.9", "BestLatency": "3",
              "WorstLatency": "3", "IntervalMin": "1", "IntervalMax": "1", "BRAM_18K": "32", "DSP": "59", "FF": "3865",
              "LUT": "10082", "URAM": "0"}, "VivadoSynthReport": {"LUT": "900", "FF": "800", "DSP48E": "5", "BRAM_18K": "1.5"}}  # fmt: skip
    folder = tmp_path / "baselines" / "Vitis" / "2024.1"
    folder.mkdir(parents=True)
    (folder / "test_dense.json").write_text(json.dumps(xilinx))
    (folder / "other.json").write_text('{"a": 1}')
    records, rejections = read_reports(tmp_path)
    assert not rejections
    assert (records[0]["tool"], records[0]["tool_version"]) == ("Vitis HLS", "2024.1")
    assert records[0]["csynth"]["bram_18k"] == 32
    assert records[0]["vsynth"]["bram_18k"] == 3
    oneapi = {"report": {"HLS": {"total": {"alut": 8793, "reg": 7113, "ram": 189, "dsp": 0, "mlab": 52}},
              "Loop": {"worstFrequency": "200.0", "worstII": "1", "worstLatency": "8.0"}}}  # fmt: skip
    found = parse_hls4ml_json(json.dumps(oneapi), origin="x")
    assert found["csynth"]["lut"] == 8793
    assert found["csynth"]["bram_18k"] is None
    assert found["clock_estimated_ns"] == pytest.approx(5)


def test_intel_reports():
    summary = '{"name": "Total", "data": [10, 20, 3, 4, 5]}\n'
    loops = '{"af": "480.0", "ii": "2", "lt": "7.000"}\n{"af": "n/a", "ii": "n/a", "lt": "n/a"}\n'
    found = parse_oneapi_ndjson(summary, loops, origin="x")["csynth"]
    assert (
        found["lut"],
        found["ff"],
        found["dsp"],
        found["m20k"],
        found["latency_cycles_max"],
    ) == (10, 20, 4, 3, 7)
    script = 'var loopsJSON={};\nvar areaJSON={"total":[10,20,3,4,5],"name":"x"};\nvar fileJSON=[];'
    assert parse_quartus_js(script, origin="x")["csynth"]["lut"] == 10
    with pytest.raises(ReportError, match="truncated"):
        parse_quartus_js(script[:40], origin="x")


def test_record_lines_keep_the_good_and_name_the_bad():
    good = {"schema": 1, "id": "a", "source": "s", "layers": [], "csynth": {"lut": 5}}
    lines = [json.dumps(good), "{", json.dumps(good | {"schema": 3}), json.dumps(good | {"csynth": {"lut": -1}}),
             json.dumps(good | {"csynth": None}), '{"schema":1,"id":"a","source":"s","csynth":{"lut":NaN}}']  # fmt: skip
    records, rejections = read_record_lines("\n".join(lines), path=Path("f.jsonl"))
    assert len(records) == 1
    assert [re.search(r"f\.jsonl:(\d)", r.reason)[1] for r in rejections] == list("23456")


@needs_shared
def test_shared_reports_are_all_read():
    records, rejections = read_reports(SHARED / "reports")
    # forks carry copies of the same report
    assert [r for r in rejections if "duplicate" not in r.reason] == []
    assert len(records) >= 300


@needs_shared
def test_shared_reports_agree_with_the_independently_parsed_records():
    ours = {}
    for record in read_reports(SHARED / "reports")[0]:
        run = re.search(r"/([^/]+@[0-9a-f]{8})_([^@]+)@", record["id"])
        if run:
            ours.setdefault((record["source"].replace("+", "/"), *run.groups()), []).append(record)
    n_compared = 0
    for name in ("hls4ml_synthesis_records.jsonl", "hls4ml_stage_pairs.jsonl"):
        for line in (SHARED / name).read_text().splitlines():
            theirs = json.loads(line)
            name = re.fullmatch(r"[^:]*:([^:]*):([^@]*)@(\w+)", theirs["id"])
            key = (theirs["source"], f"{name[1]}@{name[3]}", name[2]) if name else None
            for record in ours.get(key, ()):
                n_compared += 1
                assert record["tool"] == theirs["tool"]
                for stage in ("csynth", "vsynth"):
                    for key, value in (theirs[stage] or {}).items():
                        if record[stage] and key in record[stage] and key != "pipeline_type":
                            assert record[stage][key] == value, (theirs["id"], stage, key)
    assert n_compared >= 5


def test_weights_come_from_the_header_that_is_compiled_then_from_the_text(tmp_path):
    def words():
        found = read_weight_words(tmp_path, "w2", "ap_fixed<6,3>")
        return None if found is None else found.tolist()

    assert words() is None
    (tmp_path / "w2.txt").write_text("1.5, -0.25")
    assert words() == [12, -2]
    (tmp_path / "w2.h").write_text("weight2_t other[2] = {9, 9};")  # of another layer
    assert words() == [12, -2]
    (tmp_path / "w2.h").write_text("weight2_t w2[2] = {0.5, 99};")
    assert words() == [4, 31]  # saturated
