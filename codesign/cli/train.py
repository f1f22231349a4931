"""`codesign train`: train the chosen few, of a study or of candidate files."""

import json
from pathlib import Path

import typer

from codesign.cli._task_options import OPTION_OPTION, task_options

TARGETS = typer.Argument(help="A study folder (train its finalists), or candidate JSON files.")
OUTPUT = typer.Option(
    Path("trained"), "--output", help="Folder for one <digest>.npz per candidate file."
)


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(train)


def train(
    targets: list[Path] = TARGETS,
    task: str = typer.Option("jets", "--task", help="Task of candidate files."),
    option: list[str] = OPTION_OPTION,
    epochs: int = typer.Option(40, "--epochs", min=1, help="Passes over the training rows."),
    batch_size: int = typer.Option(256, "--batch-size", min=1, help="Rows per step."),
    distill: bool = typer.Option(
        False, "--distill", help="Learn from a floating-point teacher, too (candidate files)."
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="Seed of weights and batches."),
    output: Path = OUTPUT,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
) -> None:
    """Train at precision and report the score of the integer networks."""
    from codesign.cli._train_run import train_files, train_study
    from codesign.errors import ConfigError

    if len(targets) == 1 and targets[0].is_dir():
        if option:
            raise ConfigError("--option is for candidate files; a study's task stands in its YAML")
        rows = train_study(targets[0])
    else:
        rows = train_files(
            targets,
            task=task,
            task_options=task_options(option),
            epochs=epochs,
            batch_size=batch_size,
            distill=distill,
            seed=seed,
            output=output,
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo("digest           validation  test    weights")
    for row in rows:
        typer.echo(
            f"{row['digest']:16} {row['validation_score']:<11.4f} {row['test_score']:<7.4f} {row['weights']}"
        )
