"""`codesign profile`: latency tables of this machine's CPU or GPU; operation counts of a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `profile`."""

    @app.command()
    def profile(
        device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
        table: Annotated[
            Path, typer.Option("--table", help="Latency table; measured and written when absent.")
        ] = Path("latency_table.json"),
        measure: Annotated[
            bool, typer.Option("--measure", help="Measure the table again.")
        ] = False,
        network: Annotated[
            str | None,
            typer.Option("--network", help="Widths of a ReLU MLP to time, as in 16-64-32-32-5."),
        ] = None,
        study: Annotated[
            Path | None,
            typer.Option(
                "--study", help="Count operations of this study's winner.", show_default=False
            ),
        ] = None,
        candidate: Annotated[
            str | None, typer.Option("--candidate", help="... or of this candidate.")
        ] = None,
        batch_size: Annotated[
            int, typer.Option("--batch-size", help="Events per call.", min=1)
        ] = 1,
        json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Measure operator latencies here, compose them to networks, and count operations."""
        import sys
        from dataclasses import asdict

        from codesign.errors import DesignError
        from codesign.files import write_atomically
        from codesign.synthesis import latency_tables

        result: dict[str, object] = {}
        if study is not None:
            from codesign.api import load_network
            from codesign.synthesis.operations import count_network_operations
            from hw_models.profile import processor_energy_nj

            counts = count_network_operations([load_network(study, candidate)])
            result["operations"] = {name: float(value[0]) for name, value in asdict(counts).items()}
            result["energy_on_a_processor_nj"] = float(processor_energy_nj(counts)[0])
        else:
            import json as json_module

            if measure or not table.is_file():
                measured = latency_tables.measure_table(
                    device=device,
                    progress=lambda done, total: print(
                        f"measured {done} of {total}", file=sys.stderr
                    ),
                )
                write_atomically(table, json_module.dumps(measured.to_json(), indent=1))
            loaded = latency_tables.load_table(table)
            result |= {"table": str(table), "device": loaded.device, "n_threads": loaded.n_threads}
            if network is not None:
                parts = network.split("-")
                if not all(part.isdigit() for part in parts):
                    raise DesignError(
                        f"network {network!r}: expected widths joined by '-', as in 16-64-32-5"
                    )
                operators = latency_tables.mlp_operators([int(part) for part in parts])
                result["network"] = {
                    "widths": network,
                    "batch_size": batch_size,
                    "composed_ns": latency_tables.network_time_ns(
                        loaded, operators, batch_size=batch_size
                    ),
                    "measured_ns": latency_tables.measure_network_ns(
                        operators, device=device, batch_size=batch_size
                    ),
                }
        if json:
            import json as json_module

            print(json_module.dumps(result, indent=1))
            return
        for section, value in result.items():
            if isinstance(value, dict):
                print(f"{section}:")
                for key, item in value.items():
                    print(
                        f"  {key:<20} {item:,.0f}"
                        if isinstance(item, int | float)
                        else f"  {key:<20} {item}"
                    )
            else:
                print(f"{section}: {value}")
