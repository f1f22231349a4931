"""Damaged reports end in a record that counts something, or in one reason; never in a crash."""

import json
import random
import re
from pathlib import Path

import pytest

from codesign.synthesis.calibration import collect_records
from hw_models.calibration.parsers import ReportError, read_project, read_reports
from hw_models.errors import ModelError
from hw_models.records import read_record
from tests.synthesis import report_factory as factory

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "reports"
STAGES = ("csynth", "vsynth", "implemented", "measured")
_NUMBERS = (b"", b"-5", b"1e999", b"undef", b"9" * 400, b"0", b"1.5", b"NaN", b"-", b"NA")


def _mutate(rng: random.Random, text: bytes) -> bytes:
    """Damage a file in one to four ways: cut, flipped, doubled, shuffled, numbers swapped or replaced."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        numbers = [m.span() for m in re.finditer(rb"\d+", bytes(data))]
        lines = bytes(data).split(b"\n")
        match rng.randrange(9):
            case 0:
                del data[rng.randrange(len(data)) :]
            case 1:
                start = rng.randrange(len(data))
                del data[start : start + rng.randrange(200)]
            case 2:
                for _ in range(rng.randrange(1, 20)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            case 3:
                start = rng.randrange(len(data))
                data[start:start] = data[start : start + rng.randrange(400)]
            case 4 if numbers:
                start, end = rng.choice(numbers)
                data[start:end] = rng.choice(_NUMBERS)
            case 5 if len(numbers) > 1:
                (a, b), (c, d) = sorted(rng.sample(numbers, 2))
                data[c:d], data[a:b] = data[a:b], data[c:d]
            case 6:
                for _ in range(rng.randint(1, 3)):
                    del lines[rng.randrange(len(lines))]
                    lines = lines or [b""]
                data = bytearray(b"\n".join(lines))
            case 7:
                bit = rng.randrange(8 * len(data))
                data[bit // 8] ^= 1 << bit % 8
            case _:
                rng.shuffle(lines)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


def _own_reports() -> dict[str, bytes]:
    cosim = {"Status": "Pass", "LatencyMin": "3", "LatencyMax": "4"}
    csynth = {"TargetClockPeriod": "5.00", "LUT": "10", "FF": "5", "DSP": "1", "WorstLatency": "4"}
    layer = {"type": "Dense", "in_shape": [3], "out_shape": [2]}
    record = {
        "schema": 1,
        "id": "a",
        "source": "s",
        "layers": [layer],
        "csynth": {"lut": 5, "ff": 3},
    }
    texts = {
        "csynth.xml": factory.fill(factory.CSYNTH_XML),
        "myproject_csynth.rpt": factory.fill(factory.CSYNTH_RPT),
        "old_csynth.rpt": factory.fill(factory.CSYNTH_RPT, **factory.old_vivado()),
        "csynth.rpt": factory.fill(factory.CSYNTH_SUMMARY),
        "myproject_cosim.rpt": factory.fill(factory.COSIM_RPT),
        "vivado_synth.rpt": factory.fill(factory.UTILIZATION_RPT),
        "versal_utilization.rpt": factory.fill(factory.VERSAL_UTILIZATION_RPT, state="Routed"),
        "x_timing_summary.rpt": factory.fill(factory.TIMING_RPT),
        "clocks_timing.rpt": factory.fill(factory.SEVERAL_CLOCKS_RPT, state="Routed"),
        "myproject_export.rpt": "#=== Post-Synthesis Resource usage ===\nLUT: 90\nFF: 80\nDSP: 7\nBRAM: 2\n#=== Final timing ===\n",
        "base.json": json.dumps({"CSynthesisReport": csynth, "CosimReport": cosim}),
        "summary.ndjson": '{"name": "Total", "data": [10, 20, 3, 4, 5]}\n',
        "report_data.js": 'var areaJSON={"total":[10,20,3,4,5]};\nvar fileJSON=[];',
        "r.jsonl": json.dumps(record) + "\n",
        "estimate_layer_resources.json": '{"total": {"LUT": 3.0}}',
    }
    return {name: text.encode() for name, text in texts.items()}


def _check_sound(records):
    """A record that came out of a damaged report still holds counts, and never nothing at all."""
    for record in records:
        stages = [record[stage] for stage in STAGES if record.get(stage)]
        assert stages or isinstance(record.get("lut"), int | float)
        for metrics in stages:
            for name in ("lut", "ff", "dsp", "latency_cycles_max"):
                value = metrics.get(name)
                assert value is None or (isinstance(value, int | float) and value >= 0)
            # records that a user wrote may leave out what they do not know
            assert metrics.get("lut") or record["source"] == "s" or record["id"] == "a"
        try:
            read_record(record)
        except ModelError as error:
            assert str(error)


def _check_file(path):
    records, rejections = read_reports(path)
    assert records or rejections
    assert all(rejection.reason for rejection in rejections)
    _check_sound(records)


@pytest.mark.parametrize("name", list(_own_reports()))
def test_damaged_reports_end_in_a_record_or_a_reason(tmp_path, name):
    rng = random.Random(name)
    path = tmp_path / name
    for _ in range(25):
        path.write_bytes(_mutate(rng, _own_reports()[name]))
        _check_file(path)


@pytest.mark.parametrize("name", ["parameters.h", "defines.h", "myproject.cpp"])
def test_damaged_projects_end_in_a_project_or_a_reason(tmp_path, name):
    folder = factory.write_project(tmp_path / "p")
    path = folder / "firmware" / name
    original = path.read_bytes()
    rng = random.Random(name)
    for _ in range(40):
        path.write_bytes(_mutate(rng, original))
        try:
            read_project(folder)
        except ReportError as error:
            assert str(error)


def _damage_folder(rng, folder, originals):
    """Damage one to three of a project's files."""
    for path, content in originals.items():
        path.write_bytes(content)
    for path in rng.sample(sorted(originals), rng.randint(1, 3)):
        path.write_bytes(_mutate(rng, originals[path]))
    records, rejections = collect_records([folder, folder.parent / "sound.jsonl"])
    assert any(record.id == "sound" for record in records)
    assert all(rejection.reason for rejection in rejections)
    for record in records:
        for report in record.reports.values():
            assert report.lut or report.lut is None


def _project(tmp_path):
    folder = factory.write_project(tmp_path / "p")
    factory.write_reports(folder / "myproject_prj" / "solution1")
    (folder / "vivado_synth.rpt").write_text(factory.fill(factory.UTILIZATION_RPT, lut=5000))
    (folder / "x_timing.rpt").write_text(factory.fill(factory.TIMING_RPT))
    sound = {"schema": 1, "id": "sound", "source": "s", "layers": [], "csynth": {"lut": 5, "ff": 3}}
    (tmp_path / "sound.jsonl").write_text(json.dumps(sound) + "\n")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return folder, {path: path.read_bytes() for path in files}


def test_a_damaged_project_takes_no_other_design_down(tmp_path):
    folder, originals = _project(tmp_path)
    rng = random.Random(0)
    for _ in range(40):
        _damage_folder(rng, folder, originals)


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    rng = random.Random(1)
    own = _own_reports()
    pool = list(own.items())
    if SHARED.is_dir():  # real ones too, where they are
        real = [p for p in SHARED.rglob("*") if p.suffix in (".rpt", ".xml", ".json")]
        small = [p for p in sorted(real) if p.stat().st_size < 60_000]
        pool += [(path.name, path.read_bytes()) for path in small[:: max(1, len(small) // 40)]]
    for index in range(9_000):
        name, content = pool[index % len(pool)]
        path = tmp_path / name
        path.write_bytes(_mutate(rng, content))
        _check_file(path)
    folder, originals = _project(tmp_path)
    for _ in range(1_000):
        _damage_folder(rng, folder, originals)
