"""Kinds of projects and reports that users have: each is read as what it is, or named as what it is."""

import json

import pytest

from hw_models.calibration.parsers import ReportError, read_project, read_reports
from hw_models.calibration.parsers.csynth import parse_cosim_rpt, parse_csynth_summary
from hw_models.calibration.parsers.project import compiled_text
from hw_models.calibration.parsers.vivado import parse_timing_rpt, parse_utilization_rpt
from hw_models.records import WRAPPER_FLAG
from tests.synthesis import report_factory as factory


def _reports_of(folder, top, **numbers):
    report = folder / "syn" / "report"
    report.mkdir(parents=True, exist_ok=True)
    path = report / f"{top}_csynth.rpt"
    path.write_text(factory.fill(factory.CSYNTH_RPT, top=top, **numbers))
    return path


def test_the_script_that_ran_and_the_report_say_the_part_not_the_yaml(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    part = "xczu7ev-ffvc1156-2-e"
    for name, line in (("project.tcl", 'set part "xcvu13p-flga2577-2-e"'),):
        path = folder / name
        path.write_text(path.read_text().replace(line, f'set part "{part}"'))
    _reports_of(folder / "myproject_prj" / "solution1", "myproject", part=part)
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert (record["part"], read_project(folder)["part"]) == (part, part)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "build_prj.tcl",
            "set_top myproject\nset_part {xcku115-flvb2104-2-i}\ncreate_clock -name default -period 4\n",
        ),
        (
            "hls_config.cfg",
            "part=xcku115-flvb2104-2-i\n[hls]\nsyn.top=myproject\nclock=4ns\nclock_uncertainty=12.5%\n",
        ),
    ],
)
def test_scripts_written_by_hand_and_vitis_runs_configuration_are_read(tmp_path, name, text):
    folder = factory.write_project(tmp_path / "p")
    (folder / "project.tcl").unlink()
    (folder / name).write_text(text)
    project = read_project(folder)
    assert project["hls4ml_version"] is None
    yml = folder / "hls4ml_config.yml"
    yml.write_text(yml.read_text() + "Version: 1.1.0\n")
    assert read_project(folder)["hls4ml_version"] == "1.1.0"
    assert (project["top"], project["part"]) == ("myproject", "xcku115-flvb2104-2-i")
    assert project["clock_period_ns"] == 4.0


def test_what_synthesis_leaves_out_is_no_layer(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    source = folder / "firmware" / "myproject.cpp"
    trace = '#ifndef __SYNTHESIS__\n    nnet::save_layer_output<layer2_t>(layer2_out, "dense", 2);\n#endif\n}'
    source.write_text(source.read_text().replace("}\n", trace))
    assert [x["type"] for x in read_project(folder)["layers"]] == ["Dense", "Activation"]
    source.write_text(source.read_text().replace("#ifndef __SYNTHESIS__", "#ifdef TRACE"))
    assert [x["type"] for x in read_project(folder)["layers"]] == ["Dense", "Activation"]
    source.write_text(source.read_text().replace("save_", "own_"))
    assert [x["type"] for x in read_project(folder)["layers"]][-1] == "own_layer_output"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("#ifndef __SYNTHESIS__\na\n#else\nb\n#endif\nc", "b\nc\n"),
        ("#ifdef __SYNTHESIS__\na\n#else\nb\n#endif", "a\n"),
        ("#if !defined(__SYNTHESIS__)\na\n#ifdef X\nb\n#endif\n#endif\nc", "c\n"),
        ("#ifdef X\na\n#else\nb\n#endif /* x\ny */", "a\nb\n"),
    ],
)
def test_the_preprocessor_knows_what_synthesis_defines(text, kept):
    assert compiled_text(text) == kept


@pytest.mark.parametrize("suffix", ["axi", "axi_master"])
@pytest.mark.parametrize("with_project", [True, False])
def test_the_network_inside_a_wrapper_is_the_design(tmp_path, suffix, with_project):
    folder = tmp_path / "p"
    if with_project:
        factory.write_project(folder)
    solution = folder / "hls"
    _reports_of(solution, "myproject", lut=5000, latency=6)
    _reports_of(solution, f"myproject_{suffix}", lut=8200, latency=42, interval=28)
    (solution / "syn" / "report" / "csynth.xml").write_text(
        factory.fill(factory.CSYNTH_XML, top=f"myproject_{suffix}", lut=8200, latency=42)
    )
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert (record["csynth"]["lut"], record["csynth"]["latency_cycles_max"]) == (5000, 6)
    assert WRAPPER_FLAG not in record["flags"]


def test_a_project_that_names_the_wrapper_means_the_network_in_it(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    for name in ("project.tcl", "hls4ml_config.yml"):
        path = folder / name
        path.write_text(path.read_text().replace("myproject", "myproject_axi"))
    for top, lut in (("myproject", 5000), ("myproject_axi", 8200)):
        _reports_of(folder / "myproject_prj" / "solution1", top, lut=lut)
    (record,), _ = read_reports(tmp_path)
    assert record["csynth"]["lut"] == 5000


def test_a_wrapper_alone_is_named_as_one(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    _reports_of(folder / "myproject_prj" / "solution1", "myproject_axi", lut=8200)
    (record,), _ = read_reports(tmp_path)
    assert record["csynth"]["lut"] == 8200
    assert WRAPPER_FLAG in record["flags"]


def test_xml_of_the_wrapper_does_not_stand_for_the_network(tmp_path):
    report = tmp_path / "prj" / "hls" / "syn" / "report"
    report.mkdir(parents=True)
    for name, top, lut in (
        ("csynth.xml", "myproject_axi_master", 21000),
        ("myproject_axi_master_csynth.xml", "myproject_axi_master", 21000),
        ("myproject_csynth.xml", "myproject", 9000),
    ):
        (report / name).write_text(factory.fill(factory.CSYNTH_XML, top=top, lut=lut))
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert record["csynth"]["lut"] == 9000


def test_the_summary_of_vitis_is_read_where_there_is_nothing_else(tmp_path):
    text = factory.fill(factory.CSYNTH_SUMMARY, lut=6421, ff=1491, dsp=31, bram=2)
    report = tmp_path / "prj" / "solution1" / "syn" / "report"
    report.mkdir(parents=True)
    (report / "csynth.rpt").write_text(text)
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert record["id"].startswith("prj@")
    found = record["csynth"]
    assert (found["lut"], found["ff"], found["dsp"], found["bram_18k"]) == (6421, 1491, 31, 2)
    assert (found["latency_cycles_max"], found["interval_cycles_max"]) == (15, 1)
    assert record["clock_period_ns"] == 5.0
    assert [m["module"] for m in record["modules"]] == ["inner_network"]
    inner = parse_csynth_summary(text, origin="x", top="inner_network")
    assert inner["csynth"]["lut"] == 120
    for span in ("2.0.000", "....", "1e+999"):  # a span that is no number leaves the clock unknown
        damaged = text.replace("   20.000", f"{span:>9}")
        found = parse_csynth_summary(damaged, origin="x", top="inner_network")
        assert found["clock_period_ns"] is None
    wrapped = text.replace("myproject", "inner_network_axi")
    assert parse_csynth_summary(wrapped, origin="x")["top"] == "inner_network"
    with pytest.raises(ReportError, match="no line for other"):
        parse_csynth_summary(text, origin="x", top="other")
    # the full report, where there is one, is the better source
    _reports_of(tmp_path / "prj" / "solution1", "myproject", lut=6400)
    assert read_reports(tmp_path)[0][0]["csynth"]["lut"] == 6400


def test_reports_under_the_users_own_names_in_a_folder(tmp_path):
    (tmp_path / "jets_csynth_low.rpt").write_text(factory.fill(factory.CSYNTH_RPT, lut=4100))
    (tmp_path / "jets_200_mhz.rpt").write_text(
        factory.fill(factory.UTILIZATION_RPT, state="Routed", lut=1500)
    )
    (tmp_path / "notes.rpt").write_text("not a report")
    (tmp_path / "jets_timing.rpt").write_text(
        factory.fill(factory.SEVERAL_CLOCKS_RPT, state="Routed", wns=-0.15)
    )
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert (record["csynth"]["lut"], record["implemented"]["lut"]) == (4100, 1500)
    assert record["implemented"]["clock_achieved_ns"] == pytest.approx(5.15)
    # a second report beside it: nothing says any more to which of them the routed figures belong
    (tmp_path / "other_csynth.rpt").write_text(factory.fill(factory.CSYNTH_RPT, lut=9000))
    records, _ = read_reports(tmp_path)
    stages = [
        (r["id"].split("@")[0].split("/")[-1], bool(r["csynth"]), bool(r["implemented"]))
        for r in records
    ]
    assert sorted(stages) == [
        ("jets_200_mhz", False, True),
        ("jets_csynth_low", True, False),
        ("other_csynth", True, False),
    ]


def test_the_latest_state_of_an_implementation_counts(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    factory.write_reports(folder / "myproject_prj" / "solution1")
    for name, state, lut in (
        ("a_utilization.rpt", "Physopt postPlace", 4100),
        ("b_utilization.rpt", "Physopt postRoute", 4000),
        ("c_utilization.rpt", "Fully Placed", 4200),
        ("d_utilization.rpt", "Synthesized", 5000),
        ("e_clock_utilization.rpt", "Routed", 1),
    ):
        (folder / name).write_text(factory.fill(factory.UTILIZATION_RPT, state=state, lut=lut))
    for name, state, wns in (("a_timing", "Routed", 0.5), ("b_timing", "Fully Placed", 1.0)):
        text = factory.fill(factory.SEVERAL_CLOCKS_RPT, state=state, wns=wns)
        (folder / f"{name}.rpt").write_text(text)
    scratch = folder / "myproject_prj" / "solution1" / ".autopilot" / "db"
    scratch.mkdir(parents=True)
    (scratch / "csynth.xml").write_text(factory.fill(factory.CSYNTH_XML, lut=1))
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert record["implemented"]["clock_achieved_ns"] == pytest.approx(4.5)
    assert record["vsynth"]["lut"] == 5000
    assert (record["implemented"]["lut"], record["implemented"]["state"]) == (
        4000,
        "physopt postroute",
    )
    (folder / "f_utilization.rpt").write_text(
        factory.fill(factory.UTILIZATION_RPT, state="Synthesized", lut=6000)
    )
    (record,), (rejection,) = read_reports(tmp_path)
    assert record["vsynth"]["lut"] == 5000
    assert "another report of the same state counts 5000" in rejection.reason
    with pytest.raises(ReportError, match="design state 'Dreaming'"):
        parse_utilization_rpt(factory.fill(factory.UTILIZATION_RPT, state="Dreaming"), origin="x")


def test_the_rows_of_versal(tmp_path):
    found = parse_utilization_rpt(
        factory.fill(factory.VERSAL_UTILIZATION_RPT, state="Routed", lut=116420, ff=233693, dsp=7),
        origin="x",
    )
    assert (found["metrics"]["lut"], found["metrics"]["ff"], found["metrics"]["dsp"]) == (
        116420, 233693, 7,
    )  # fmt: skip


def test_of_several_clocks_the_designs_own_counts():
    text = factory.fill(factory.SEVERAL_CLOCKS_RPT, state="Routed", wns=0.25)
    found = parse_timing_rpt(text, origin="x")
    assert (found["wns_ns"], found["clock_period_ns"], found["stage"]) == (0.25, 5.0, "implemented")
    named = factory.fill(factory.SEVERAL_CLOCKS_RPT, state="Routed", wns=0.25, name="lhc_clk")
    assert parse_timing_rpt(named, origin="x", period_ns=5.0)["wns_ns"] == 0.25
    with pytest.raises(ReportError, match="2 clocks"):
        parse_timing_rpt(named, origin="x")
    with pytest.raises(ReportError, match="2 clocks"):  # both have the period
        parse_timing_rpt(named.replace("40.000 ", "5.000 "), origin="x", period_ns=5.0)


def test_a_cosimulation_without_figures_takes_nothing_with_it(tmp_path):
    csynth = {"TargetClockPeriod": "5.00", "LUT": "10", "FF": "5", "DSP": "1"}
    path = tmp_path / "report.json"
    for cycles, expected in (("NA", {"status": "Pass"}), ("x", None)):
        cosim = {"Status": "Pass", "LatencyMin": cycles, "LatencyMax": cycles}
        path.write_text(json.dumps({"CSynthesisReport": csynth, "CosimReport": cosim}))
        (record,), rejections = read_reports(path)
        assert record["csynth"]["lut"] == 10
        assert record["cosim"] == expected
        assert len(rejections) == (expected is None)
    text = factory.fill(factory.COSIM_RPT, latency="NA", interval="NA")
    assert parse_cosim_rpt(text, origin="x") == {"status": "Pass"}


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("estimate_layer_resources.json", '{"total": {"LUT": 3.0}}', "FINN"),
        ("rtl.rpt", "-- Catapult University Version: Report", "Catapult"),
        ("jets.fit.summary", "Fitter Status : Successful", "Quartus"),
    ],
)
def test_other_tools_files_are_named_as_what_they_are(tmp_path, name, text, what):
    (tmp_path / name).write_text(text)
    for given in (tmp_path, tmp_path / name):
        records, (rejection,) = read_reports(given)
        assert not records
        assert what in rejection.reason
        assert "not supported" in rejection.reason


def test_adapters_and_block_designs_make_no_noise(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    factory.write_reports(folder / "myproject_prj" / "solution1")
    for name in ("design_1_wrapper", "bd_0_wrapper", "myproject_axi"):
        (folder / f"{name}_utilization_placed.rpt").write_text(
            factory.fill(factory.UTILIZATION_RPT, top=name, lut=0, ff=0, state="Fully Placed")
        )
    (record,), rejections = read_reports(tmp_path)
    assert not rejections
    assert record["implemented"] is None


def test_designs_are_named_by_their_project(tmp_path):
    folder = factory.write_project(tmp_path / "jets" / "reuse_4")
    factory.write_reports(folder / "myproject_prj" / "solution1")
    names = [read_reports(at)[0][0]["id"].split("@")[0] for at in (tmp_path, folder)]
    assert names == ["jets/reuse_4", "reuse_4"]
    factory.write_reports(folder / "myproject_prj" / "solution2", lut=99)
    assert sorted(r["id"].split("@")[0] for r in read_reports(folder)[0]) == [
        "reuse_4/myproject_prj/solution1",
        "reuse_4/myproject_prj/solution2",
    ]


@pytest.mark.parametrize("place", ["NN", "."])
def test_networks_of_the_trigger_experiments_emulators(tmp_path, place):
    folder = factory.write_trigger_emulator(tmp_path / "NET_v1", place)
    dense, relu = read_project(folder)["layers"]
    assert (dense["in_shape"], dense["out_shape"]) == ([3], [2])
    assert (dense["n_zeros"], dense["n_multipliers"]) == (1, 1)  # from weights.h
    assert relu["in_shape"] == [2]  # N_LAYER_2, a constant made of another
    assert [p.reason for p in read_reports(tmp_path)[1]] == [
        "an hls4ml project without any report; run its synthesis first"
    ]
