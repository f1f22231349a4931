"""`codesign list`: what can be chosen, with one line each and where it is used."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `list`."""

    @app.command(name="list")
    def list_(
        kind: Annotated[str, typer.Argument(help="A kind; none: the kinds there are.")] = "",
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """List what can be chosen: devices, budgets, spaces, tasks, metrics, strategies, ..."""
        import json

        from codesign.catalog import KINDS, Row, list_choices

        kinds: list[Row] = [(name, known.use, {}) for name, known in KINDS.items()]
        rows = list_choices(kind) if kind else kinds
        if as_json:
            print(json.dumps([{"name": n, "description": t, **f} for n, t, f in rows], indent=1))
            return
        if kind:
            print(f"used in {KINDS[kind].use}\n")
        width = max((len(name) for name, _, _ in rows), default=0) + 2
        for name, text, figures in rows:
            print(f"{name:{width}}{text}".rstrip())
            if figures:
                shown = "; ".join(f"{key} {value}" for key, value in figures.items() if value != "")
                print(" " * width + shown)
