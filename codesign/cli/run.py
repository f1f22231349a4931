"""`codesign run`: the whole loop, from data and a budget to a proven firmware candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DASK = "Address of a dask scheduler to train and search on, instead of this machine's cores."


def register(app: typer.Typer) -> None:
    """Add the verbs `run` and `search`."""

    @app.command()
    def run(
        config: Annotated[Path, typer.Argument(help="Study file, e.g. examples/jets_100ns.yaml.")],
        output: Annotated[
            Path | None, typer.Option(help="Study folder.  [default: runs/<name>]")
        ] = None,
        dask: Annotated[str | None, typer.Option(help=_DASK)] = None,
    ) -> None:
        """Search, train, export, prove and report.  Run it again to resume after a stop."""
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


def _run(config_path: Path, output: Path | None, *, until: str, dask: str | None) -> None:
    from codesign.cli._progress import RichReporter, output_console
    from codesign.pipeline import run_study
    from codesign.report.summary import summarize
    from codesign.report.table import print_tables
    from codesign.study import Study, load_config

    config = load_config(config_path)
    study = Study.create_or_open(output or Path("runs") / config.name, config)
    with RichReporter() as reporter:
        run_study(study, until=until, reporter=reporter, dask=dask)
    print_tables(summarize(study), output_console())
    where = study.report_page if until == "report" else study.folder
    print(
        f"study: {study.folder}\nreport: {where}" if until == "report" else f"study: {study.folder}"
    )
