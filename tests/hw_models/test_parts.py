"""What a part holds, whether a design fits, and what the tools do when it does not."""

import pytest

from codesign.hardware.device import load_device
from codesign.resources import data_root
from hw_models.calibration import estimate_records
from hw_models.coefficients import Coefficients
from hw_models.compose import estimate
from hw_models.formula import RESOURCES
from hw_models.parts import LUT_PER_DSP, capacity_of
from hw_models.records import LayerRecord, Record
from hw_models.types import METRICS
from tests.hw_models.test_laws import batch_of


def large(part):
    word = "ap_fixed<16,6>"
    layer = LayerRecord(
        type="Dense", name="d", in_shape=(64,), out_shape=(64,), n_zeros=0, weight_precision=word,
        input_precision=word, result_precision=word, accum_precision=word,
    )  # fmt: skip
    return Record(id="x", source="s", tool="Vivado HLS", part=part, clock_period_ns=5.0, layers=(layer,))  # fmt: skip


def test_every_shipped_device_holds_what_the_table_says():
    for path in (data_root("constraints") / "devices").glob("*.yaml"):
        device = load_device(path.stem)
        assert capacity_of(device.part) == {r: getattr(device, r) for r in RESOURCES}


@pytest.mark.parametrize(
    ("part", "dsp"),
    [("xc7z020clg400-1", 220), ("xc7z007s-clg225-2", 66), ("xczu5ev-sfvc784-2LV-e", 1248), ("xcu55c-fsvh2892-2L-e", 9024),
     ("xcvu9p-flga2104-2L-e", 6840), ("xczu19eg-ffvb1517-2-i", 1968), ("xc7vx690tffg1927-2", 3600), ("xcu50-fsvh2104-2-e", 5952)],
)  # fmt: skip
def test_parts_are_known_by_their_number(part, dsp):
    assert capacity_of(part)["dsp"] == dsp


@pytest.mark.parametrize("part", ["hls4ml", "ultrascale_plus", "xczu1cg", "xcu500", "10AX115"])
def test_other_parts_are_not_guessed(part):
    assert capacity_of(part) is None


def test_an_estimate_ends_with_the_share_of_the_part_and_what_is_over():
    fits, over, unknown = estimate_records(
        [large("xcvu13p-flga2577-2-e"), large("xc7z020clg400-1"), large("hls4ml")]
    )
    assert fits["over"] == [] and fits["notes"][-1].startswith("share of xcvu13p")
    assert fits["utilization"]["dsp"] == pytest.approx(fits["dsp"]["value"] / 12288, abs=1e-3)
    assert {"lut", "dsp"} <= set(over["over"])
    assert "does not fit, over: LUT" in over["notes"][-1] and "once the DSPs" in over["notes"][-1]
    assert unknown["utilization"] is None and "capacity of hls4ml is not known" in unknown["notes"][-1]  # fmt: skip


def test_logic_synthesis_builds_in_luts_what_finds_no_dsp():
    batch = batch_of(large("xc7z020clg400-1"))
    early, late = (estimate(batch, Coefficients(), stage=stage).metrics for stage in ("csynth", "vsynth"))  # fmt: skip
    missing = early["dsp"].value[0] - 220
    assert missing > 1000
    assert late["dsp"].value[0] == late["dsp"].high[0] == 220
    assert late["lut"].value[0] == pytest.approx(early["lut"].value[0] + LUT_PER_DSP * missing, rel=1e-3)  # fmt: skip


def test_no_interval_of_hls_has_zero_width_and_those_of_plain_rtl_do_where_it_is_built_so():
    exact = Coefficients(intervals={metric: {"*": (0.0, 0.0)} for metric in METRICS})
    hls = estimate(batch_of(large("xcvu9p")), exact).metrics
    assert all(known.low[0] < known.high[0] for known in hls.values())
    from dataclasses import replace

    graph = replace(large("xcvu9p"), tool="alkaid", strategy="distributed_arithmetic")
    rtl = estimate(batch_of(graph), exact).metrics
    for metric in ("interval_cycles", "dsp", "bram_18k"):
        assert rtl[metric].low[0] == rtl[metric].value[0] == rtl[metric].high[0]


def test_an_interval_that_says_nothing_is_called_so():
    vague = Coefficients(intervals={"lut": {"*": (-4.0, 4.0)}})
    notes = estimate(batch_of(large("xcvu9p")), vague, with_notes=True).notes[0]
    assert any(note.startswith("no basis for lut") for note in notes)
    assert not any(note.startswith("no basis for ff") for note in notes)
