"""`codesign schema`: the keys of a kind of YAML file, as JSON Schema or as a page."""

import json

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("schema")(schema)


def schema(
    kind: str = typer.Argument(
        "", help="study, space, device or budget; none: a page of them all."
    ),
) -> None:
    """Print the JSON Schema of a kind of YAML file (for editors), or a page with every key."""
    from codesign.schema import json_schema, reference_page

    typer.echo(json.dumps(json_schema(kind), indent=2) if kind else reference_page())
