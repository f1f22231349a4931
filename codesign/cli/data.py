"""`codesign data`: list tasks, show and check data, download the public set, generate jets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from codesign.cli._task_options import OPTION_OPTION, task_options

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object instead of a table.")
N_OF_OPTION = typer.Option(
    [],
    "--n-of",
    help="Of level1: kept events of one process, as PROCESS=N; others are left out. May be given several times.",
)


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    data = typer.Typer(no_args_is_help=True, help="List, check, download and generate data.")
    data.command("list")(list_tasks)
    data.command("show")(show)
    data.command("check")(check)
    data.command("fetch")(fetch)
    data.command("generate")(generate)
    app.add_typer(data, name="data")


def list_tasks(as_json: bool = JSON_OPTION) -> None:
    """List the tasks: every source of data that can be trained on."""
    from codesign.tasks import TASKS

    rows = [{"name": t.name, "needs": t.needs, "description": t.description} for t in TASKS]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_table(("task", "needs", "what"), [tuple(row.values()) for row in rows])


def show(
    task: str = typer.Argument(help="A task's name; see `codesign data list`."),
    option: list[str] = OPTION_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Load a task and say what is in it, what was checked, and the input scaling."""
    from codesign.tasks import fit_scaling, load_task

    data = load_task(task, task_options(option))
    if as_json:
        typer.echo(json.dumps({**data.summary(), "scaling": fit_scaling(data).to_json()}, indent=2))
    else:
        _print_data(data)


def check(
    file: Annotated[
        Path, typer.Argument(help="A .npz, .csv, .parquet, .arff, .z or .h5 file, or a folder.")
    ],
    option: list[str] = OPTION_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Check a file: load it as the task that its name suggests, with every check a run makes."""
    from codesign.tasks import load_task
    from codesign.tasks._detect import task_for_path

    data = load_task(task_for_path(file), {**task_options(option), "path": file})
    if as_json:
        typer.echo(json.dumps(data.summary(), indent=2))
    else:
        _print_data(data)


def fetch(
    source: str = typer.Argument(help="What to download: openml."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Download a public set into the cache, checked against its publisher's checksum."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from codesign.errors import ConfigError, unknown_name
    from codesign.tasks.openml import cached_path, fetch_openml

    if source != "openml":
        raise ConfigError(unknown_name("download", source, ["openml"]))
    columns = ("openml", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task("openml", total=None)
        statement = fetch_openml(
            progress=lambda done, total: bar.update(job, completed=done, total=total)
        )
    if as_json:
        typer.echo(json.dumps({"path": str(cached_path()), **statement}, indent=2))
    else:
        typer.echo(f"{cached_path()}: {statement['n_bytes']} bytes, SHA-256 {statement['sha256']}")


def generate(
    output: Annotated[Path, typer.Option("--output", help="The .npz file to write.")],
    what: str = typer.Argument("jets", help="What to simulate: jets, level1 or muons."),
    n_per_class: int = typer.Option(
        4000,
        "--n-per-class",
        min=1,
        help="Jets of each of the five classes, events of each process, or muons.",
    ),
    seed: int = typer.Option(
        2, "--seed", min=0, help="Same seed, same bits; 1 made the bundled jets."
    ),
    n_of: list[str] = N_OF_OPTION,
    processes: int = typer.Option(
        1,
        "--processes",
        min=1,
        help="Of jets and level1: worker processes, one for each class at most.",
    ),
    n_constituents: int = typer.Option(
        0, "--n-constituents", min=0, help="Of jets: particles kept for each."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Simulate data (all but muons need the package pythia8mc, which is GPL-2.0-or-later)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from codesign.errors import ConfigError, unknown_name

    if what not in _GENERATORS:
        raise ConfigError(unknown_name("simulation", what, _GENERATORS))
    if output.suffix != ".npz":
        raise ConfigError(f"--output is {str(output)!r}; expected a name that ends in .npz")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}; make it first")
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task(what, total=None)
        n_rows = _GENERATORS[what](
            output,
            n=n_per_class,
            seed=seed,
            processes=processes,
            n_constituents=n_constituents,
            n_of=task_options(n_of, name="--n-of"),
            progress=lambda n_done: bar.advance(job, n_done),
        )
    if as_json:
        typer.echo(json.dumps({"path": str(output), "n_rows": n_rows, "seed": seed}))
    else:
        typer.echo(f"{output}: {n_rows} rows; use them with task: {_READERS[what]}")


def _generate_jets(
    output: Path, *, n: int, seed: int, processes: int, n_constituents: int, progress: Any, **_: Any
) -> int:
    from codesign.tasks import _jetgen

    settings = _jetgen.JetSettings(n_per_class=n, seed=seed, n_constituents=n_constituents)
    jets = _jetgen.generate(settings, n_processes=processes, progress=progress)
    _jetgen.write_jets(jets, output)
    return len(jets.y)


def _generate_level1(
    output: Path,
    *,
    n: int,
    seed: int,
    processes: int,
    progress: Any,
    n_of: dict[str, int],
    **_: Any,
) -> int:
    from codesign.tasks import _level1_generator
    from codesign.tasks.level1 import is_trained_on, teacher_view

    settings = _level1_generator.Level1Settings(
        n_events=n_of or dict.fromkeys(_level1_generator.PROCESSES, n), seed=seed
    )
    events = _level1_generator.generate(settings, n_processes=processes, progress=progress)
    from codesign.tasks._anomaly_teacher import anomaly_scores

    x = teacher_view(events.x, _level1_generator.FEATURES)
    is_train = is_trained_on(events.process, events.collision, events.process_names)
    score = anomaly_scores(x[is_train], x, seed=seed)
    _level1_generator.write_events(events, output, score=score)
    return len(events.x)


def _generate_muons(output: Path, *, n: int, seed: int, progress: Any, **_: Any) -> int:
    from codesign.tasks import _muon_generator

    muons = _muon_generator.generate(n, seed=seed)
    _muon_generator.write_muons(muons, output)
    progress(n)
    return n


#: What can be simulated, and the task that reads the file.
_GENERATORS: dict[str, Callable[..., int]] = {
    "jets": _generate_jets,
    "level1": _generate_level1,
    "muons": _generate_muons,
}
_READERS = {"jets": "npz", "level1": "level1", "muons": "muons"}


def _print_data(data: Any) -> None:
    typer.echo(
        f"{data.name}: benchmark {data.benchmark}, {data.n_features} features, {data.n_outputs} outputs"
    )
    typer.echo(f"train {data.x_train.shape}, test {data.x_test.shape}; split {data.split}")
    for head in data.target.statement():
        typer.echo(f"head {head['name']}: {head['kind']} {', '.join(head['outputs'])}")
    typer.echo(f"digest: {data.digest}")
    for key, value in data.provenance.items():
        typer.echo(f"{key}: {value}")
    _print_table(
        ("check", "outcome", "detail"), [(c.name, c.outcome, c.detail) for c in data.checks]
    )


def _print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from codesign.cli._progress import output_console

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    output_console(markup=False).print(table)
