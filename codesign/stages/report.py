"""Stage "report": the page that people read."""

from __future__ import annotations

from codesign.files import write_atomically
from codesign.report.page import render
from codesign.report.summary import summarize
from codesign.results import Page, Results
from codesign.stages.setting import Setting

KEYS = ("name",)


def run(setting: Setting, earlier: Results) -> Page:
    """Write the page of everything found so far."""
    write_atomically(setting.study.report_page, render(summarize(setting.study)))
    return Page()
