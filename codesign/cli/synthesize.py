"""`codesign synthesize`: run synthesis tools on exported designs; records for calibration come out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `synthesize`."""

    @app.command()
    def synthesize(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(
                help="Exports, hls4ml projects, folders of Verilog, study folders.",
                show_default=False,
            ),
        ] = None,
        tool: Annotated[
            str,
            typer.Option(
                "--tool",
                help="open (Yosys), ecp5 (routed by nextpnr), vitis, vivado, or auto: open and every vendor tool found.",
            ),
        ] = "auto",
        steps: Annotated[
            str, typer.Option("--steps", help="Some of csynth,cosim,vsynth,implemented.")
        ] = "csynth,vsynth",
        output: Annotated[
            Path | None,
            typer.Option(
                "--output", help="Append the records to this JSONL file.", show_default=False
            ),
        ] = None,
        work: Annotated[
            Path | None,
            typer.Option("--work", help="Folder for the runs; beside each design by default."),
        ] = None,
        top: Annotated[
            str | None, typer.Option("--top", help="Top module; needed for bare Verilog.")
        ] = None,
        part: Annotated[
            str | None, typer.Option("--part", help="Device part; the design's own by default.")
        ] = None,
        clock_period_ns: Annotated[
            float | None,
            typer.Option("--clock-period-ns", help="Target clock; the design's own by default."),
        ] = None,
        timeout_s: Annotated[
            float, typer.Option("--timeout-s", help="Limit of each step, in seconds.", min=1)
        ] = 7200,
        workers: Annotated[
            int, typer.Option("--workers", help="Processes on this machine.", min=1)
        ] = 1,
        dask: Annotated[
            str | None,
            typer.Option("--dask", help="Address of a dask scheduler, instead of local processes."),
        ] = None,
        corpus: Annotated[
            int,
            typer.Option(
                "--corpus",
                help="Instead: synthesise N random designs as a calibration corpus.",
                min=0,
            ),
        ] = 0,
        seed: Annotated[int, typer.Option("--seed", help="Seed of the corpus.", min=0)] = 2026,
        json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON.")] = False,
    ) -> None:
        """Synthesise exported designs with open tools, and with vendor tools where installed."""
        import sys

        if corpus:
            from codesign.synthesis.corpus import generate_corpus

            if output is None:
                raise typer.BadParameter("--corpus needs --output FILE.jsonl")
            n_added = generate_corpus(
                output, n_designs=corpus, seed=seed, timeout_s=timeout_s,
                report=lambda line: print(line, file=sys.stderr, flush=True),
            )  # fmt: skip
            print(f"{n_added} records added to {output}")
            return
        if not paths:
            raise typer.BadParameter("give at least one design, or --corpus N")
        from codesign.synthesis.command import synthesize_paths

        outcomes = synthesize_paths(
            paths, tool=tool, steps=tuple(steps.split(",")), output=output, work=work, top=top, part=part,
            clock_period_ns=clock_period_ns, timeout_s=timeout_s, n_workers=workers, dask_scheduler=dask,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        if json:
            import json as json_module
            from dataclasses import asdict

            print(json_module.dumps([asdict(outcome) for outcome in outcomes], indent=1))
        else:
            from codesign.cli._progress import output_console
            from codesign.synthesis.command import outcome_table

            output_console().print(outcome_table(outcomes))
        if all(outcome.status == "failed" for outcome in outcomes):
            raise typer.Exit(1)
