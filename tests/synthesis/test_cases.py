"""Cases from the field, read where they lie beside the project; the kinds are tests of the project's own elsewhere."""

from pathlib import Path

import pytest

from codesign.errors import CodesignError
from codesign.synthesis.calibration import collect_records
from codesign.synthesis.estimates import estimate_design, project_record
from hw_models.coefficients import load_coefficients

CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases" / "reports"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")

#: csynth of each case, as its README says: latency, interval, LUT, FF, DSP, BRAM (None: not said).
REPORTED = {
    "03_part_in_project_tcl/prj": (3, 1, 4100, 900, 60, None),
    "05_accelerator_wrapper/prj": (6, 1, 5000, 2000, None, None),
    "13_unified_xml_wrapper/prj": (800, 790, 9000, 7000, None, 4),
    "14_csynth_summary_only/prj": (11, 1, 6421, 1491, 31, 2),
    "15_other_names/reports": (None, None, 4100, None, None, None),
}
NAMES = ("latency_cycles", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


@pytest.mark.parametrize("case", list(REPORTED))
def test_a_case_reads_as_its_readme_says(case):
    ((record,), rejected) = collect_records([CASES / case])
    assert not rejected
    for name, value in zip(NAMES, REPORTED[case], strict=True):
        assert value is None or record.reports["csynth"].value(name) == value, name


def test_figures_and_parts_beside_the_estimate():
    ((other,), _) = collect_records([CASES / "15_other_names" / "reports"])
    assert other.reports["implemented"].lut == 1500
    ((ran,), _) = collect_records([CASES / "03_part_in_project_tcl" / "prj"])
    assert ran.part.startswith("xczu7ev")
    ((traced,), _) = collect_records([CASES / "04_trace_output" / "prj"])
    assert len(traced.layers) == 3
    with pytest.raises(CodesignError, match="FINN report, which is not supported"):
        collect_records([CASES / "18_finn_empty_reason" / "report"])


def _estimate(case):
    return estimate_design(project_record(CASES / case / "prj"), coefficients=load_coefficients())


def test_laws_that_the_cases_missed():
    large = _estimate("07_dense_large").summary
    assert abs(large["latency_cycles"]["value"] - 1962) <= 20
    norm = _estimate("08_batchnorm_reuse").summary
    assert norm["dsp"]["value"] == 1
    assert abs(norm["latency_cycles"]["value"] - 19) <= 2
    too_big = _estimate("09_no_capacity_note").summary
    assert set(too_big["over"]) == {"lut", "ff", "dsp"}
