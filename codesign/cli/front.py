"""`codesign front` and `codesign compare`: choose among the designs of a study, or of two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from codesign.front import Design


def register(app: typer.Typer) -> None:
    """Add the verbs `front` and `compare`."""

    @app.command()
    def front(
        study: Annotated[Path, typer.Argument(help="Study folder.")],
        trained: Annotated[bool, typer.Option("--trained", help="Trained designs only.")] = False,
        efficient: Annotated[
            bool, typer.Option("--efficient", help="Leave out designs that another beats.")
        ] = False,
        at_most_lut: Annotated[
            float | None, typer.Option("--at-most-lut", help="LUT limit.")
        ] = None,
        at_most_ns: Annotated[
            float | None, typer.Option("--at-most-ns", help="Latency limit.")
        ] = None,
        at_least_score: Annotated[
            float | None, typer.Option("--at-least-score", help="Score limit.")
        ] = None,
        flow: Annotated[str | None, typer.Option("--flow", help="rtl or hls.")] = None,
        most: Annotated[
            int,
            typer.Option(
                "--most", min=0, help="Predicted designs to print, spread over LUT; 0: all."
            ),
        ] = 20,
        json: Annotated[
            bool, typer.Option("--json", help="Print a JSON list of all of them.")
        ] = False,
    ) -> None:
        """List the designs of a study, trained and predicted, with the best figures known."""
        from codesign.front import Limits, designs_of
        from codesign.study import Study

        limits = Limits(
            at_most_lut=at_most_lut,
            at_most_ns=at_most_ns,
            at_least_score=at_least_score,
            flow=flow,
        )
        chosen = [
            d
            for d in designs_of(Study.open(study))
            if limits.hold(d)
            and (d.state == "trained" or not trained)
            and (d.is_efficient or not efficient)
        ]
        if json:
            import json as json_module

            print(json_module.dumps([d.model_dump(mode="json") for d in chosen], indent=1))
            return
        from codesign.cli._progress import output_console
        from codesign.report.table import front_table

        title = f"{len(chosen)} designs of {study} (score ± one standard error)"
        shown, n_left_out = _thinned(chosen, most)
        console = output_console()
        console.print(front_table(shown, title=title))
        if n_left_out:
            console.print(
                f"{n_left_out} more predicted designs lie between these; --most 0 prints all of them",
                highlight=False,
            )

    @app.command()
    def compare(
        first: Annotated[str, typer.Argument(help="Study folder, or FOLDER:DIGEST.")],
        second: Annotated[str, typer.Argument(help="Study folder, or FOLDER:DIGEST.")],
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Put two designs side by side, and what each LUT budget buys in their studies."""
        from codesign.report.compare import compare_designs, comparison_tables

        found = compare_designs(first, second)
        if json:
            import json as json_module

            print(json_module.dumps(found, indent=1))
            return
        from codesign.cli._progress import output_console

        console = output_console()
        for table in comparison_tables(found):
            console.print(table)
        for note in found["notes"]:
            console.print(note, highlight=False, markup=False)


def _thinned(designs: Sequence[Design], most: int) -> tuple[list[Design], int]:
    """Return trained designs and at most so many predicted ones (0: all), evenly of all; and how many are left out."""
    predicted = [d for d in designs if d.state != "trained"]
    if not most or len(predicted) <= most:
        return list(designs), 0
    n, last = len(predicted), max(most - 1, 1)
    kept = {predicted[i * (n - 1) // last].digest for i in range(most)}
    shown = [d for d in designs if d.state == "trained" or d.digest in kept]
    return shown, len(designs) - len(shown)
