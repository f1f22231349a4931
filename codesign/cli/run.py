"""`codesign run`: the whole loop, from data and a budget to a proven firmware candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DASK = (
    "Address of a dask scheduler: labels, search, finalists and open synthesis are worked on there;"
    " fitting, exports and proofs here."
)


def register(app: typer.Typer) -> None:
    """Add the verbs `run` and `search`."""

    @app.command()
    def run(
        config: Annotated[Path, typer.Argument(help="Study file, e.g. examples/jets_100ns.yaml.")],
        output: Annotated[
            Path | None, typer.Option(help="Study folder.  [default: runs/<name>]")
        ] = None,
        dask: Annotated[str | None, typer.Option(help=_DASK)] = None,
        dry_run: Annotated[
            bool,
            typer.Option(
                "--dry-run", help="Check everything and say what would be done; write nothing."
            ),
        ] = False,
    ) -> None:
        """Search, train, export, prove and report.  Run it again to resume after a stop."""
        if dry_run:
            _plan(config, output)
        else:
            _run(config, output, until="report", dask=dask)

    @app.command()
    def search(
        config: Annotated[Path, typer.Argument(help="Study file.")],
        output: Annotated[
            Path | None, typer.Option(help="Study folder.  [default: runs/<name>]")
        ] = None,
        dask: Annotated[str | None, typer.Option(help=_DASK)] = None,
    ) -> None:
        """Only label, fit the predictor and search: leaves a Pareto front in the study folder."""
        _run(config, output, until="search", dask=dask)


def _plan(config_path: Path, output: Path | None) -> None:
    from codesign.checks import load_config

    config = load_config(config_path)
    from codesign.pipeline import plan_study

    folder = output or Path("runs") / config.name
    planned = plan_study(folder, config)
    print(f"{folder}: {sum(p.state == 'done' for p in planned)} of {len(planned)} stages are done")
    for p in planned:
        print(f"  {p.name:<12} {p.state:<6} {_about(p.effort.seconds):>8}  {p.effort.what}")
    left = sum(p.effort.seconds for p in planned if p.state != "done")
    print(f"left: about {_about(left)} on two idle cores")


def _about(seconds: float) -> str:
    """Return a time as roughly as it is known: one digit."""
    if seconds < 100:
        return f"{float(f'{max(seconds, 1):.1g}'):.0f} s"
    return f"{float(f'{seconds / 60:.1g}'):.0f} min"


def _run(config_path: Path, output: Path | None, *, until: str, dask: str | None) -> None:
    from codesign.checks import load_config
    from codesign.study import Study

    # before torch is loaded: what is wrong in the file is said at once
    config = load_config(config_path)
    study = Study.at(output or Path("runs") / config.name, config)
    from codesign.cli._progress import RichReporter, output_console
    from codesign.pipeline import run_study
    from codesign.report.summary import summarize
    from codesign.report.table import print_tables

    with RichReporter() as reporter:
        run_study(study, until=until, reporter=reporter, dask=dask)
    print_tables(summarize(study), output_console())
    where = study.report_page if until == "report" else study.folder
    print(
        f"study: {study.folder}\nreport: {where}" if until == "report" else f"study: {study.folder}"
    )
