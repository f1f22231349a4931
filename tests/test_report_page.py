"""The page of a study in a real browser: nothing is cut off at the widths of usual screens."""

import json
import re
import shutil
import subprocess

import pytest

from codesign.front import Design
from codesign.report.curves import log_axis
from codesign.report.page import _score_range, render
from codesign.report.summary import summarize
from tests.test_front import study  # noqa: F401

#: Counts what reaches beyond the window or out of its own box, and clicks a design.
_PROBE = """<script>window.addEventListener("load", () => setTimeout(() => {
  const wide = [...document.querySelectorAll("section, table, td, th, p, pre, .card")]
    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1 || e.scrollWidth > e.clientWidth + 2)
    .map(e => e.tagName + ":" + e.textContent.slice(0, 30));
  document.querySelector("tr.pick").click();
  const found = {wide, picked: document.getElementById("picked").textContent, plots: document.querySelectorAll(".main-svg").length};
  const out = document.createElement("pre"); out.id = "probe"; out.textContent = JSON.stringify(found);
  document.body.appendChild(out);
}, 500));</script></body>"""


@pytest.fixture
def page(study, tmp_path):  # noqa: F811
    path = tmp_path / "report.html"
    path.write_text(render(summarize(study)), encoding="utf-8")
    return path


def test_the_verdict_stands_first_and_every_design_can_be_picked(page):
    text = page.read_text(encoding="utf-8")
    order = [
        text.index(f'<section id="{name}"') for name in ("verdict", "front", "why", "proof", "next")
    ]
    assert order == sorted(order)
    embedded = json.loads(re.search(r"const designs = (\{.*\});", text)[1])
    assert len(embedded) == 5 and all(d["facts"] for d in embedded.values())


def test_poor_predicted_designs_do_not_press_the_trained_ones_into_a_line(study):  # noqa: F811
    summary = summarize(study)
    designs = [Design.model_validate(value) for value in summary["front"]]
    trained = [d.score for d in designs if d.state == "trained"]
    worst = designs[-1].model_copy(update={"state": "predicted", "score": min(trained) - 10})
    low, high = _score_range([*designs, worst])
    assert low < min(trained) <= max(trained) < high
    assert max(trained) - min(trained) > 0.2 * (high - low)
    assert _score_range([worst]) is None  # nothing trained: all of it


def test_ticks_of_a_logarithmic_axis_are_numbers():
    axis = log_axis([80.0, 0.0, 12_000.0])
    shown = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert {100: "100", 2000: "2,000", 10_000: "10,000"}.items() <= shown.items()
    assert log_axis([0.0003, 0.02])["ticktext"][0] == "0.0001"
    assert "tickvals" not in log_axis([900.0, 1350.0])  # one number would lie in it


@pytest.mark.slow
@pytest.mark.parametrize("width", [1024, 1280, 1920, 2560, "A4"])
def test_nothing_is_cut_off(page, width):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs the program chromium")
    text = page.read_text(encoding="utf-8")
    if (
        width == "A4"
    ):  # its width in CSS pixels, less margins; a headless window is at least 500 wide
        text, width = text.replace("@media print {", "@media all {"), 718
    head, _, tail = text.rpartition("</body>")
    page.write_text(head + _PROBE + tail, encoding="utf-8")
    shown = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-sync", f"--window-size={width},3000",
            "--virtual-time-budget=8000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=50, check=True,
    ).stdout  # fmt: skip
    found = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', shown)[1].replace("&amp;", "&"))
    assert found["wide"] == []
    assert found["plots"] >= 2
    assert "codesign export" in found["picked"]
