"""The page of a study in a real browser: nothing is cut off at the widths of usual screens."""

import json
import re
import shutil
import subprocess

import pytest

from codesign.report.page import render
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


@pytest.mark.slow
@pytest.mark.parametrize("width", [1024, 1280, 1920, 2560])
def test_nothing_is_cut_off(page, width):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs the program chromium")
    text = page.read_text(encoding="utf-8")
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
