"""`codesign calibrate`: fit the hardware models to synthesis reports; say what to synthesise next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `calibrate`."""

    @app.command()
    def calibrate(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(
                help="Folders and files of reports or records; none: the corpus that ships.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                help="Coefficients file; the next version in your user folder by default.",
            ),
        ] = None,
        base: Annotated[
            Path | None,
            typer.Option("--base", help="Coefficients to start from; those that ship by default."),
        ] = None,
        page: Annotated[
            Path,
            typer.Option("--page", help="HTML page with plots; written next to where you are."),
        ] = Path("calibration.html"),
        suggest: Annotated[
            int,
            typer.Option(
                "--suggest", help="Instead: name the N designs to synthesise next.", min=0
            ),
        ] = 0,
        study: Annotated[
            Path | None,
            typer.Option(
                "--study", help="Study whose Pareto front --suggest sharpens.", show_default=False
            ),
        ] = None,
        projects: Annotated[
            Path | None,
            typer.Option("--projects", help="Folder for the hls4ml projects of --suggest."),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Fit the hardware models to your reports; coefficients are written only if held-out error falls."""
        import sys

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        if suggest:
            if study is None:
                raise typer.BadParameter("--suggest N needs --study FOLDER")
            _suggest(suggest, study, projects, base, json, say)
            return
        from rich.console import Console

        from codesign.files import write_atomically
        from codesign.report.calibration_page import calibration_page
        from codesign.synthesis.calibration import calibration_table, run_calibration, run_json

        run = run_calibration(
            paths or [], base=base, output=output,
            progress=lambda done, total: say(f"parsed {done} of {total} designs"),
            report=lambda group: say(f"held out: {group}"),
        )  # fmt: skip
        write_atomically(page, calibration_page(run))
        if json:
            import json as json_module

            print(json_module.dumps(run_json(run), indent=1))
            return
        console = Console()
        rejected = [*run.rejections]
        console.print(
            f"{run.n_records} records read ({run.n_without_architecture} without an architecture), "
            f"{len(rejected)} files rejected",
            highlight=False,
        )
        for item in rejected[:20]:
            console.print(
                f"  rejected {item.path}: {item.reason}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if len(rejected) > 20:
            console.print(f"  ... and {len(rejected) - 20} more, all on the page", highlight=False)
        for stage, reason in run.skipped.items():
            console.print(f"{stage}: not fitted, {reason}", highlight=False, markup=False)
        console.print(calibration_table(run))
        if run.output is None:
            console.print("held-out error did not fall: the coefficients stay as they are")
        else:
            console.print(f"coefficients: {run.output}", highlight=False, soft_wrap=True)
        console.print(f"page: {page}", highlight=False)


def _suggest(
    n: int,
    study: Path,
    projects: Path | None,
    base: Path | None,
    json: bool,
    say: Callable[[str], None],
) -> None:
    from codesign.cli._suggest import suggest_for_study, suggestion_table

    chosen = suggest_for_study(study, n, base=base, projects=projects, report=say)
    if json:
        import json as json_module
        from dataclasses import asdict

        print(json_module.dumps([asdict(item) for item in chosen], indent=1))
        return
    from rich.console import Console

    Console().print(suggestion_table(chosen))
