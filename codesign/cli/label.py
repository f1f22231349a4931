"""`codesign label`: train many candidates at their precision; statistics of what came out."""

import json
from pathlib import Path

import typer

from codesign.cli._task_options import OPTION_OPTION, task_options

TASK = typer.Option("jets", "--task", help="Task; see `codesign data list`.")
SPACE = typer.Option("mlp_l1", "--space", help="Search space, by name or YAML path.")
DEVICE = typer.Option("xcvu13p", "--device", help="Device, by name or YAML path.")
STORE = typer.Option(Path("labels.db"), "--store", help="Label store; resumed where it exists.")
FILE = typer.Argument(None, help="A benchmark file; else the jet benchmark that ships.")
OUTPUT = typer.Option(..., "--output", help="File to write, .jsonl.gz.")
JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object instead of a table.")


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    label = typer.Typer(help="Train candidates at their precision, many at a time.")
    label.callback(invoke_without_command=True)(make)
    label.command("statistics")(statistics)
    label.command("export")(export)
    app.add_typer(label, name="label")


def make(
    context: typer.Context,
    task: str = TASK,
    option: list[str] = OPTION_OPTION,
    space: str = SPACE,
    device: str = DEVICE,
    n_candidates: int = typer.Option(100, "--n-candidates", min=1, help="Candidates to label."),
    n_seeds: int = typer.Option(1, "--n-seeds", min=1, help="Trainings per candidate."),
    epochs: int = typer.Option(8, "--epochs", min=1, help="Passes over the training rows."),
    stop_below: float = typer.Option(
        0.0,
        "--stop-below",
        help="Stop a network half way when it learned less than this share of the median.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="Seed of the sample and first training."),
    n_workers: int = typer.Option(0, "--n-workers", min=0, help="Processes; 0: one per core."),
    dask: str = typer.Option("", "--dask", help="Address of a dask scheduler to train on instead."),
    store: Path = STORE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Sample candidates from a space and train them; kill and repeat the command to resume."""
    if context.invoked_subcommand is not None:
        return
    from codesign.cli._label_run import run_labels

    found = run_labels(
        task=task,
        task_options=task_options(option),
        space=space,
        device=device,
        n_candidates=n_candidates,
        n_seeds=n_seeds,
        epochs=epochs,
        stop_below=stop_below,
        seed=seed,
        n_workers=n_workers or None,
        dask=dask,
        store=store,
    )
    _print(found, as_json)


def statistics(
    file: Path = FILE,
    space: str = typer.Option("", "--space", help="Only pairs drawn from this space."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a benchmark holds, and its noise ceiling."""
    from dataclasses import asdict

    from codesign.training.benchmark import (
        BENCHMARK_PATH,
        benchmark_statistics,
        entries_of_space,
        load_benchmark,
    )

    entries = load_benchmark(file or BENCHMARK_PATH)
    chosen = entries_of_space(entries, space) if space else entries
    _print(asdict(benchmark_statistics(chosen)), as_json)


def export(
    store: Path = STORE,
    output: Path = OUTPUT,
    options: str = typer.Option("", "--options", help="Digest of the training options to select."),
) -> None:
    """Write the labels of a store as a benchmark file (graphs with targets)."""
    from codesign.training.benchmark import write_benchmark
    from codesign.training.store import LabelStore

    with LabelStore(store) as opened:
        chosen = opened.labels(options=options) if options else opened.labels()
    typer.echo(f"{write_benchmark(chosen, output)} pairs written to {output}")


def _print(values: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        typer.echo(f"{name:24} {shown}")
