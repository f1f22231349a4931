"""`codesign report`: a study, in the terminal, as a page or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `report`."""

    @app.command()
    def report(
        study: Annotated[Path, typer.Argument(help="Study folder.")],
        json: Annotated[
            bool, typer.Option("--json", help="Print one machine-readable object.")
        ] = False,
    ) -> None:
        """Show a study: terminal tables and report.html, or one JSON object."""
        from codesign.files import write_atomically
        from codesign.report.summary import summarize
        from codesign.study import Study

        opened = Study.open(study)
        summary = summarize(opened)
        if json:
            import json as json_module

            print(json_module.dumps(summary, indent=1, allow_nan=False))
            return
        from codesign.cli._progress import output_console
        from codesign.report.page import render
        from codesign.report.table import print_tables

        write_atomically(opened.report_page, render(summary))
        print_tables(summary, output_console())
        print(f"report: {opened.report_page}")
