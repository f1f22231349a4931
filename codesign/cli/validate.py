"""`codesign validate`: check a certificate again, or compare a device with the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `validate`."""

    @app.command()
    def validate(
        study: Annotated[
            Path, typer.Argument(help="Study folder, or a folder that `codesign export` wrote.")
        ],
        device: Annotated[
            str | None,
            typer.Option(
                "--device",
                help="torch: onnx: csim: emulator: rtl: tcp://host:port uart:///dev/ttyUSB0?baud=115200"
                " ipbus://host:port emp://FOLDER; a path may follow the first five.",
                show_default=False,
            ),
        ] = None,
        candidate: Annotated[
            str | None,
            typer.Option("--candidate", help="Digest of a candidate; the winner by default."),
        ] = None,
        events: Annotated[
            int,
            typer.Option(
                "--events", help="Events to compare; random ones after the test set.", min=1
            ),
        ] = 100_000,
        soak_s: Annotated[
            float, typer.Option("--soak-s", help="Go on for so many seconds.", min=0)
        ] = 0.0,
        batch_events: Annotated[
            int, typer.Option("--batch-events", help="Events per batch.", min=1, max=1_000_000)
        ] = 4096,
        seed: Annotated[int, typer.Option("--seed", help="Seed of the random events.", min=0)] = 0,
        write_server: Annotated[
            str | None,
            typer.Option(
                "--write-server",
                help="Instead: write the server folder for this board (pynq-z2, zcu102) to --output.",
                show_default=False,
            ),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option("--output", help="Folder for --write-server.", show_default=False),
        ] = None,
        bitstream: Annotated[
            str, typer.Option("--bitstream", help="Its file name on the board.")
        ] = "design.bit",
        json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Check certificates against every file and prove what was left for later; with --device, compare a device."""
        import json as json_module
        import sys

        from rich.table import Table

        from codesign.cli._progress import output_console

        table = Table(show_header=False)
        if write_server is not None:
            if output is None or device is not None:
                raise typer.BadParameter("--write-server needs --output FOLDER and no --device")
            from codesign.validate import command

            command.write_server(
                command.find_target(study, candidate), write_server, output, bitstream=bitstream,
                batch_events=batch_events,
            )  # fmt: skip
            print(f"copy {output} to the board; its README.txt says how to start it")
            return
        if device is None:
            from codesign.validate.certificate import note_certificates, recheck

            found = recheck(study, progress=lambda line: print(line, file=sys.stderr, flush=True))
            if (study / "study.yaml").is_file():
                from codesign.study import Study

                note_certificates(Study.open(study))
            if json:
                print(json_module.dumps(found, indent=1))
                return
            for name, entry in found.items():
                table.add_row(name, ", ".join(f"{key} {value}" for key, value in entry.items()))
            output_console().print(table)
            return

        from codesign.cli._progress import RichReporter
        from codesign.validate.command import find_target, report_lines, run_device

        with (
            RichReporter() as reporter,
            reporter.stage(f"comparing with {device}", float(events)) as stage,
        ):
            report = run_device(
                find_target(study, candidate), device, n_events=events, soak_s=soak_s, seed=seed,
                batch_events=batch_events, progress=lambda n: stage.update(float(n)),
            )  # fmt: skip
        if json:
            print(json_module.dumps(report.to_json(), indent=1))
        else:
            for label, text in report_lines(report):
                table.add_row(label, text)
            output_console().print(table)
        if not report.passed:
            raise typer.Exit(1)
