"""`codesign predictor`: train, evaluate and use predictors of score on any graph file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.errors import ConfigError

GRAPHS_HELP = "Graph file, .jsonl or .jsonl.gz: one {nodes, edges, target} a line."
DUPLICATES_HELP = "Equal graphs with different labels: error or mean."


def register(app: typer.Typer) -> None:
    """Add the verb group `predictor`."""
    group = typer.Typer(no_args_is_help=True, help="Train, evaluate and use score predictors.")
    group.command()(train)
    group.command()(evaluate)
    group.command()(rank)
    app.add_typer(group, name="predictor")


def _numbers(text: str, option: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option}: expected numbers like 78,156,469, got {text!r}") from error
    if not values or min(values) < 1:
        raise ConfigError(f"{option}: expected positive numbers, got {text!r}")
    return values


def train(
    graphs: Annotated[Path, typer.Option(help=GRAPHS_HELP)],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, .npz.")],
    method: Annotated[
        str, typer.Option(help="Registered method, or auto: the best on left-out labels.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of weights, order and folds.")] = 0,
    duplicates: Annotated[str, typer.Option(help=DUPLICATES_HELP)] = "error",
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint of a related task: with method auto or transfer, fine-tune it."
        ),
    ] = None,
    as_population: Annotated[
        bool,
        typer.Option(
            "--as-population",
            help="The file is a benchmark of codesign networks: encode them as a search does.",
        ),
    ] = False,
) -> None:
    """Fit a predictor on labelled graphs and store it."""
    from codesign.cli._progress import RichReporter
    from codesign.predictor.pretrained import train_on_benchmark
    from codesign.predictor.train import train_file

    with RichReporter() as reporter, reporter.stage("train the predictor", 1):
        if as_population:
            reason = train_on_benchmark(
                output, path=graphs, method=method, seed=seed, start_from=start_from
            )
        else:
            reason = train_file(
                graphs,
                output,
                method=method,
                seed=seed,
                duplicates=duplicates,
                start_from=start_from,
            )
    typer.echo(f"{output}: {reason}")


def evaluate(
    graphs: Annotated[Path, typer.Option(help=GRAPHS_HELP)],
    output: Annotated[Path, typer.Option(help="Figures to write, .json.")],
    train_sizes: Annotated[str, typer.Option(help="Numbers of labels.")] = "78,156,469",
    seeds: Annotated[int, typer.Option(min=1, help="Splits per number of labels.")] = 5,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated.  [default: all registered]")
    ] = None,
    test_graphs: Annotated[
        int | None, typer.Option(min=2, help="Test graphs per split.  [default: all others]")
    ] = None,
    duplicates: Annotated[str, typer.Option(help=DUPLICATES_HELP)] = "error",
) -> None:
    """Compare methods: Kendall tau, Spearman, top-10 regret and calibration on unseen graphs."""
    from codesign.cli._progress import RichReporter
    from codesign.encoding.graph import load_graphs
    from codesign.predictor.base import METHODS
    from codesign.predictor.evaluate import LabelledGraphs
    from codesign.predictor.evaluate import evaluate as run
    from codesign.predictor.train import summary_lines, write_json

    names = methods.split(",") if methods else list(METHODS.names())
    for name in names:
        METHODS.get(name)
    sizes = _numbers(train_sizes, "--train-sizes")
    data = LabelledGraphs.prepare(load_graphs(graphs, duplicates=duplicates))
    with (
        RichReporter() as reporter,
        reporter.stage("evaluate", len(names) * len(sizes) * seeds) as stage,
    ):
        done = 0

        def on_done(text: str) -> None:
            nonlocal done
            done += 1
            stage.update(done, text)

        result = run(
            data,
            methods=names,
            train_sizes=sizes,
            n_seeds=seeds,
            n_test=test_graphs,
            on_done=on_done,
        )
    write_json(output, result)
    for line in summary_lines(result):
        typer.echo(line)


def rank(
    graphs: Annotated[Path, typer.Option(help=GRAPHS_HELP + " Labels are ignored.")],
    checkpoint: Annotated[Path, typer.Option(help="What `predictor train` wrote.")],
    output: Annotated[
        Path | None, typer.Option(help="JSON lines to write.  [default: a table on stdout]")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 20,
) -> None:
    """Predict the score of graphs, best first, with 90 % intervals."""
    from codesign.predictor.train import rank_file

    lines = rank_file(graphs, checkpoint, output=output, top=top)
    for line in lines:
        typer.echo(line)
