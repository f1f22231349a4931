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
                help="Folders and files of reports or records; none: the corpus that ships."
                " With --revert: the version to go back to.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                help="Coefficients file; the next version in your configuration folder by default.",
            ),
        ] = None,
        base: Annotated[
            Path | None,
            typer.Option(
                "--base",
                help="Coefficients to start from; by default where your version in use started, its reports kept.",
            ),
        ] = None,
        page: Annotated[
            Path | None,
            typer.Option(
                "--page",
                help="HTML page with plots (5 MB); beside the coefficients by default, where any are written.",
                show_default=False,
            ),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Do everything but write coefficients.")
        ] = False,
        history: Annotated[
            bool, typer.Option("--history", help="Instead: list your versions.")
        ] = False,
        revert: Annotated[
            bool,
            typer.Option(
                "--revert",
                help="Instead: go back to the version before the one in use, or to the one named; 0: as shipped.",
            ),
        ] = False,
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
        """Fit the hardware models to your reports; what does not predict held-out designs better stays as it was."""
        import sys

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        if history or revert:
            if revert:
                say(_revert([str(path) for path in paths or []]))
            _history(json)
            return
        if suggest:
            if study is None:
                raise typer.BadParameter("--suggest N needs --study FOLDER")
            _suggest(suggest, study, projects, base, json, say)
            return
        from codesign.cli._progress import output_console
        from codesign.files import write_atomically
        from codesign.report.calibration_page import calibration_page
        from codesign.synthesis.calibration import (
            accounting,
            calibration_table,
            run_calibration,
            run_json,
        )

        run = run_calibration(
            paths or [], base=base, output=output, is_dry=dry_run,
            progress=lambda done, total: say(f"parsed {done} of {total} designs"),
            report=lambda group: say(f"held out: {group}"),
        )  # fmt: skip
        if page is None and run.output is not None:
            page = run.output.with_suffix(".html")
        if page is not None:
            write_atomically(page, calibration_page(run))
        if json:
            import json as json_module

            print(json_module.dumps(run_json(run), indent=1))
            return
        console = output_console()

        def show(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        show(f"starting from {run.start}")
        for line in accounting(run):
            show(line)
        console.print(calibration_table(run))
        if not run.is_better:
            show("nothing predicts held-out designs better: the coefficients stay as they are")
        elif run.is_dry:
            show("a dry run: nothing was written")
        else:
            show(f"coefficients: {run.output}")
            spoken = run.coefficients.provenance["covers"]
            show(
                "they speak for "
                + ("; ".join(filter(None, map(", ".join, spoken.values()))) or "every flow")
            )
        show("plots: --page FILE" if page is None else f"page: {page}")


def _revert(versions: list[str]) -> str:
    """Go back to a version; return what was done."""
    from codesign.synthesis.coefficient_files import previous_version, use_version

    if len(versions) > 1 or not all(version.isdigit() for version in versions):
        raise typer.BadParameter("--revert takes one version number; see --history")
    number = int(versions[0]) if versions else previous_version()
    use_version(number)
    return f"estimates start from version {number} from now on"


def _history(json: bool) -> None:
    """Print every version of the user's coefficients."""
    from codesign.synthesis.coefficient_files import history, history_json, history_table

    versions = history()
    if json:
        import json as json_module

        print(json_module.dumps(history_json(versions), indent=1))
        return
    from codesign.cli._progress import output_console

    output_console().print(history_table(versions))


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
    from codesign.cli._progress import output_console

    output_console().print(suggestion_table(chosen))
