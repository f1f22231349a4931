"""Compare every search strategy on the joint problem: `make bench-search`.

(a) an enumerated slice of the joint space (196,416 pairs, true front known),
(b) the full space `mlp_l1`,
(c) labelled architectures, where accuracy was measured by training (`--labels FILE.jsonl.gz`),
(d) differentiable search and the supernet against the default at equal time, designs trained.

Equal budgets, paired seeds.  Writes one JSON object and one self-contained HTML page.  Hardware
figures are *predicted*; accuracy is predicted too in (a) and (b) (the page says by what) and
measured in (c).
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from codesign.hardware.device import load_budget, load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.ir import Network, Population
from codesign.joint import JointProblem
from codesign.search.archive import Archive, archive_of
from codesign.search.loop import run_search
from codesign.search.metrics import (
    attainment_surface,
    feasible_history,
    hypervolume_curve,
    normalized_hypervolume,
    regret,
    share_of_front_found,
)
from codesign.search.problem import Booleans, Evaluation, Floats, Genomes, concatenate
from codesign.search.strategies.base import STRATEGIES
from codesign.search.synthetic import enumerate_space
from codesign.space import SearchSpace
from codesign.space.space import load_space
from codesign.training.benchmark import BENCHMARK_PATH, load_benchmark

HERE = Path(__file__).resolve().parent
DEFAULT = "nsga2"
#: Strategies too slow for the common budget run to this many evaluations only.
SHORT = {"optuna_tpe": 150}
OBJECTIVES = ("accuracy", "latency_ns", "lut")


def surrogate_accuracy(population: Population) -> tuple[Floats, Floats]:
    """A closed form that saturates in width and precision; made up, for search benchmarks only."""
    n, columns = population.n_candidates, population.columns
    has_weights = columns["weight_bits"] > 0
    kept = 1.0 - 0.5 * columns["pruned_fraction"] ** 2
    capacity = np.bincount(
        population.candidate, has_weights * np.log2(1.0 + columns["n_out"]) * kept, minlength=n
    )
    coarse = np.bincount(
        population.candidate,
        has_weights * 2.0 ** (-0.9 * columns["weight_bits"])
        + (columns["output_bits"] > 0) * 2.0 ** (-1.1 * columns["output_bits"]),
        minlength=n,
    )
    return 0.745 - 0.35 * np.exp(-0.28 * capacity) - 0.35 * coarse, np.full(n, 0.005)


@dataclass
class Recorded:
    """A problem that remembers its evaluations and the seconds they took."""

    inner: object
    log: list[Evaluation] = field(default_factory=list)
    evaluate_s: float = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def evaluate(self, genomes: Genomes) -> Evaluation:
        started_s = time.perf_counter()
        evaluation = self.inner.evaluate(genomes)  # type: ignore[attr-defined]
        self.evaluate_s += time.perf_counter() - started_s
        self.log.append(evaluation)
        return evaluation


@dataclass(frozen=True, kw_only=True)
class Enumerated:
    """A problem scored once and for all; `evaluate` looks up."""

    upper: NDArray[np.int64]
    ordered: Booleans
    objective_names: tuple[str, ...]
    constraint_names: tuple[str, ...]
    canonical: Callable[[Genomes], Genomes]
    row_of: dict[bytes, int]
    genomes: Genomes
    everything: Evaluation

    def canonicalize(self, genomes: Genomes) -> Genomes:
        return self.canonical(genomes)

    def evaluate(self, genomes: Genomes) -> Evaluation:
        rows = [self.row_of[genome.tobytes()] for genome in self.canonical(genomes)]
        return self.everything.take(np.array(rows, dtype=np.int64))


def tabulate(problem: JointProblem, genomes: Genomes) -> Enumerated:
    """Score `genomes` (canonical, distinct) once."""
    parts = [problem.evaluate(part) for part in np.array_split(genomes, 1 + len(genomes) // 20000)]
    return Enumerated(
        upper=problem.upper,
        ordered=problem.ordered,
        objective_names=problem.objective_names,
        constraint_names=problem.constraint_names,
        canonical=problem.canonicalize,
        row_of={genome.tobytes(): i for i, genome in enumerate(genomes)},
        genomes=genomes,
        everything=concatenate(parts),
    )


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Search among labelled architectures only, at any clock, realised as RTL.

    Every genome stands for its nearest labelled architecture (ordered genes by distance, names by
    equality), at its own clock.

    Attributes:
        table: all pairs of labelled architecture and clock.
        architectures: int64[n, n_var], the labelled ones, clock 0.
        clock: column of the clock gene.
    """

    table: Enumerated
    architectures: Genomes
    clock: int

    def __getattr__(self, name: str) -> object:
        return getattr(self.table, name)

    def canonicalize(self, genomes: Genomes) -> Genomes:
        known, upper = self.architectures, np.maximum(self.table.upper, 1)
        nearest = np.empty(len(genomes), dtype=np.int64)
        matters = np.ones(len(upper))
        matters[self.clock] = 0.0
        for rows in np.array_split(np.arange(len(genomes)), 1 + len(genomes) // 64):
            gap = np.abs(genomes[rows][:, None, :] - known[None, :, :])
            gap = np.where(self.table.ordered, gap / upper, gap > 0)
            nearest[rows] = (gap @ matters).argmin(axis=1)
        projected = known[nearest]
        projected[:, self.clock] = genomes[:, self.clock]
        return projected

    def evaluate(self, genomes: Genomes) -> Evaluation:
        rows = [self.table.row_of[genome.tobytes()] for genome in self.canonicalize(genomes)]
        return self.table.everything.take(np.array(rows, dtype=np.int64))


def encode_network(network: Network, space: SearchSpace) -> NDArray[np.int64] | None:
    """Return the RTL genome of a labelled network, int64[n_var], or None when out of the space."""
    values: dict[str, int | float | str] = {"flow": "rtl"}
    values["input_bits"] = network.nodes[0].parameters["result_bits"]
    k = 0
    for node in network.nodes[1:]:
        parameters = node.parameters
        if node.layer == "dense":
            k += 1
            values[f"width_{k}"] = parameters["units"]
            values[f"weight_bits_{k}"] = parameters["weight_bits"]
            values[f"pruned_fraction_{k}"] = parameters["pruned_fraction"]
            values[f"batch_norm_{k}"], values[f"skip_{k}"] = 0, "none"
        elif node.layer == "batch_norm":
            values[f"batch_norm_{k}"] = 1
        elif node.layer in ("add", "concat"):
            values[f"skip_{k}"] = node.layer
        elif node.layer == "linear":
            values["output_bits"] = parameters["result_bits"]
        else:
            values[f"activation_{k}"] = node.layer
            values[f"result_bits_{k}"] = parameters["result_bits"]
    values["depth"] = k - 1
    for name in ("weight_bits", "pruned_fraction"):
        values[f"{name}_head"] = values.pop(f"{name}_{k}")
    genome = np.zeros(len(space.genes), dtype=np.int64)
    for i, gene in enumerate(space.genes):
        number = gene.name.rsplit("_", 1)[-1]
        if gene.name == "clock_mhz" or (number.isdigit() and int(number) >= k):
            continue
        if gene.name.startswith("width") and values[f"skip_{number}"] == "add":
            continue
        if gene.name in values:
            if values[gene.name] not in gene.domain:
                return None
            genome[i] = gene.domain.index(values[gene.name])
    return space.canonicalize(genome[None, :])[0]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One strategy with one seed."""

    strategy: str
    seed: int
    curve: Floats
    archive: Archive
    total_s: float
    evaluate_s: float


def run_all(
    problem: object, strategies: list[str], n_seeds: int, budget: int, title: str
) -> list[tuple[str, int, Archive, Evaluation, float, float]]:
    """Run every strategy with every seed; return the raw material of the curves."""
    rows = []
    for name in strategies:
        for seed in range(n_seeds):
            recorded = Recorded(problem)
            started_s = time.perf_counter()
            archive = run_search(
                recorded, name, n_evaluations=min(budget, SHORT.get(name, budget)), seed=seed
            )
            total_s = time.perf_counter() - started_s
            rows.append(
                (name, seed, archive, concatenate(recorded.log), total_s, recorded.evaluate_s)
            )
        print(f"{title}: {name} done", file=sys.stderr, flush=True)
    return rows


def study(
    problem: object,
    strategies: list[str],
    n_seeds: int,
    budget: int,
    *,
    title: str,
    truth: Floats | None,
) -> dict[str, object]:
    """Run one benchmark and condense it to JSON values.

    Args:
        problem: what to search.
        truth: the true front float[k, m], or None where nobody knows it.
    """
    rows = run_all(problem, strategies, n_seeds, budget, title)
    if truth is None:
        pooled = rows[0][2]
        for row in rows[1:]:
            pooled = pooled.merge(row[2])
        reference = pooled.objectives
    else:
        reference = truth
    ideal, nadir = reference.min(axis=0), reference.max(axis=0)
    best = normalized_hypervolume(reference, ideal=ideal, nadir=nadir)
    checkpoints = np.unique(
        np.concatenate([np.geomspace(min(50, budget), budget, 24), [min(500, budget)]]).astype(int)
    )
    runs = []
    for name, seed, archive, evaluation, total_s, evaluate_s in rows:
        objectives, found_at = feasible_history(evaluation)
        curve = (
            hypervolume_curve(objectives, found_at, checkpoints, ideal=ideal, nadir=nadir) / best
        )
        curve[checkpoints > len(evaluation)] = np.nan
        runs.append(
            Run(
                strategy=name,
                seed=seed,
                curve=curve,
                archive=archive,
                total_s=total_s,
                evaluate_s=evaluate_s,
            )
        )
    summary = {name: summarise(name, runs, checkpoints, reference) for name in strategies}
    compare(summary, runs, checkpoints)
    return {
        "title": title,
        "budget": budget,
        "n_seeds": n_seeds,
        "reference_front": "true" if truth is not None else "union of all runs",
        "reference_size": len(reference),
        "reference_points": reference.tolist(),
        "checkpoints": checkpoints.tolist(),
        "strategies": summary,
    }


def summarise(
    name: str, runs: list[Run], checkpoints: NDArray[np.int64], reference: Floats
) -> dict[str, object]:
    """Condense one strategy's runs."""
    mine = [run for run in runs if run.strategy == name]
    curves = np.array([run.curve for run in mine])
    last = np.flatnonzero(~np.isnan(curves[0]))[-1]
    fronts = [run.archive.objectives for run in mine if len(run.archive) > 0]
    ideal, nadir = reference.min(axis=0), reference.max(axis=0)
    median = attainment_surface(fronts, 50.0) if len(fronts) == len(mine) else reference[:0]
    return {
        "curves": np.where(np.isnan(curves), None, np.round(curves, 6)).tolist(),
        "final_hypervolume_share": curves[:, last].tolist(),
        "final_checkpoint": int(checkpoints[last]),
        "median_attained_hypervolume": normalized_hypervolume(median, ideal=ideal, nadir=nadir)
        / normalized_hypervolume(reference, ideal=ideal, nadir=nadir),
        "regret": [regret(run.archive, reference) for run in mine],
        "share_of_front_found": [share_of_front_found(run.archive, reference) for run in mine],
        "infeasible_in_archive": int(sum((~r.archive.evaluation.is_feasible).sum() for r in mine)),
        "strategy_s_per_1000": [
            1000.0 * (run.total_s - run.evaluate_s) / run.archive.n_evaluations for run in mine
        ],
        "total_s": [run.total_s for run in mine],
        "area_under_curve": np.nanmean(curves, axis=1).tolist(),
    }


def compare(
    summary: dict[str, dict[str, object]], runs: list[Run], checkpoints: NDArray[np.int64]
) -> None:
    """Add paired tests against random search and against the default, Holm-corrected."""
    by_name = {
        name: np.array([run.curve for run in runs if run.strategy == name]) for name in summary
    }
    for rival in ("random", DEFAULT):
        if rival not in by_name:
            continue
        values: dict[str, float] = {}
        for name, curves in by_name.items():
            if name == rival:
                continue
            shared = ~np.isnan(curves[0]) & ~np.isnan(by_name[rival][0])
            gap = curves[:, shared].mean(axis=1) - by_name[rival][:, shared].mean(axis=1)
            values[name] = 1.0 if not gap.any() else float(wilcoxon(gap).pvalue)
            late = shared & (checkpoints >= min(500, int(checkpoints[shared][-1])))
            ahead = curves[:, late] > by_name[rival][:, late]
            summary[name][f"median_gap_to_{rival}"] = float(np.median(gap))
            summary[name][f"seeds_ahead_of_{rival}_at_every_budget_from_500"] = int(
                ahead.all(axis=1).sum()
            )
        for name, p_value in holm(values).items():
            summary[name][f"p_value_against_{rival}"] = p_value


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Correct p-values for their number.  Source: Holm, Scand. J. Statist. 6, 1979."""
    corrected, largest = {}, 0.0
    for i, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, value * (len(p_values) - i)))
        corrected[name] = largest
    return corrected


def verdict(result: dict[str, object]) -> list[str]:
    """Say in sentences who won and whether the bars were met."""
    summary: dict[str, dict] = result["strategies"]  # type: ignore[assignment]
    full = {n: s for n, s in summary.items() if s["final_checkpoint"] == result["budget"]}
    ranked = sorted(full, key=lambda n: -float(np.mean(full[n]["final_hypervolume_share"])))
    sentences = [
        f"Best final hypervolume: {ranked[0]} ("
        f"{100 * float(np.mean(full[ranked[0]]['final_hypervolume_share'])):.2f} % of the "
        f"{result['reference_front']} front's, mean of {result['n_seeds']} seeds); order: "
        + ", ".join(ranked)
        + "."
    ]
    if DEFAULT in full:
        shares = full[DEFAULT]["final_hypervolume_share"]
        sentences.append(
            f"The default, {DEFAULT}, reaches {100 * min(shares):.2f} % in its worst and "
            f"{100 * float(np.mean(shares)):.2f} % in its mean seed after {result['budget']} "
            "evaluations."
        )
        ahead = full[DEFAULT].get("seeds_ahead_of_random_at_every_budget_from_500")
        if ahead is not None:
            sentences.append(
                f"It is ahead of random search with the same seed at every budget from 500 up in "
                f"{ahead} of {result['n_seeds']} seeds."
            )
        better = [
            name
            for name in full
            if name != DEFAULT
            and full[name].get("p_value_against_" + DEFAULT, 1.0) < 0.05
            and full[name]["median_gap_to_" + DEFAULT] > 0
        ]
        sentences.append(
            "Significantly better than the default over the whole curve (Wilcoxon signed rank, "
            f"Holm-corrected, 5 %): {', '.join(better) or 'none'}."
        )
    broken = sum(s["infeasible_in_archive"] for s in summary.values())
    sentences.append(f"Infeasible points in archives: {broken}.")
    return sentences


def page(results: list[dict], notes: list[str]) -> str:
    """Render one self-contained HTML page."""
    import html

    import plotly.graph_objects as go
    from plotly.offline import get_plotlyjs

    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Search strategies</title>",
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;"
        "padding:0 1rem}table{border-collapse:collapse}td,th{padding:.25rem .6rem;"
        "border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child"
        "{text-align:left}</style>",
        f"<script>{get_plotlyjs()}</script></head><body><h1>Search strategies compared</h1>",
        "".join(f"<p>{html.escape(note)}</p>" for note in notes),
    ]
    for result in results:
        parts.append(f"<h2>{html.escape(result['title'])}</h2><ul>")
        parts += [f"<li>{html.escape(line)}</li>" for line in result["verdict"]]
        parts.append("</ul>")
        if "strategies" not in result:
            box = go.Figure()
            for name, shares in result["hypervolume_share_of_union"].items():
                box.add_box(y=shares, name=name, boxpoints="all")
            box.update_layout(yaxis={"title": "share of the union's hypervolume"}, height=360)
            parts.append(box.to_html(full_html=False, include_plotlyjs=False))
            continue
        figure = go.Figure()
        for name, entry in result["strategies"].items():
            curves = np.array(entry["curves"], dtype=float)
            keep = ~np.isnan(curves[0])
            x = np.array(result["checkpoints"])[keep]
            figure.add_scatter(x=x, y=np.median(curves[:, keep], axis=0), name=name, mode="lines")
        figure.update_layout(
            xaxis={"title": "evaluations", "type": "log"},
            yaxis={"title": "share of the reference hypervolume (median seed)"},
            height=480,
        )
        parts.append(figure.to_html(full_html=False, include_plotlyjs=False))
        box = go.Figure()
        for name, entry in result["strategies"].items():
            box.add_box(y=entry["final_hypervolume_share"], name=name, boxpoints="all")
        box.update_layout(
            yaxis={"title": "share of the hypervolume at the end"}, showlegend=False, height=380
        )
        parts.append(box.to_html(full_html=False, include_plotlyjs=False))
        parts.append(
            "<table><tr><th>strategy</th><th>evaluations</th><th>hypervolume mean</th><th>worst"
            "</th><th>median attainment</th><th>regret (IGD+)</th><th>front found</th>"
            "<th>ahead of random</th><th>p vs random</th><th>p vs default</th>"
            "<th>own s / 1000</th></tr>"
        )
        for name, entry in sorted(
            result["strategies"].items(),
            key=lambda item: -float(np.mean(item[1]["final_hypervolume_share"])),
        ):
            shares = entry["final_hypervolume_share"]
            cells = [
                name,
                str(entry["final_checkpoint"]),
                f"{np.mean(shares):.4f}",
                f"{min(shares):.4f}",
                f"{entry['median_attained_hypervolume']:.4f}",
                f"{np.mean(entry['regret']):.4f}",
                f"{np.mean(entry['share_of_front_found']):.2f}",
                str(entry.get("seeds_ahead_of_random_at_every_budget_from_500", "-")),
                _p(entry.get("p_value_against_random")),
                _p(entry.get("p_value_against_" + DEFAULT)),
                f"{np.median(entry['strategy_s_per_1000']):.3f}",
            ]
            parts.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
        parts.append("</table>")
    parts.append("</body></html>")
    return "".join(parts)


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def joint(space: str | Path, device: str, budget: str) -> JointProblem:
    """Build the joint problem of a space, with the closed-form accuracy."""
    return JointProblem(
        space=load_space(space, n_inputs=16, n_outputs=5),
        scorer=HardwareScorer(device=load_device(device)),
        budget=load_budget(budget),
        accuracy=surrogate_accuracy,
        objectives=OBJECTIVES,
    )


def labelled(path: Path) -> Labelled:
    """Build (c) from the labelled jet benchmark: error measured by training, on validation jets."""
    problem = joint("mlp_l1", "xcvu13p", "l1_100ns")
    genomes, accuracy = [], []
    for entry in load_benchmark(path):
        genome = encode_network(entry.network, problem.space)
        if genome is not None:
            genomes.append(genome)
            accuracy.append(float(np.mean(entry.validation_accuracy)))
    architectures, first = np.unique(np.array(genomes), axis=0, return_index=True)
    clock = [gene.name for gene in problem.space.genes].index("clock_mhz")
    n_clocks = int(problem.upper[clock]) + 1
    pairs = np.repeat(architectures, n_clocks, axis=0)
    pairs[:, clock] = np.tile(np.arange(n_clocks), len(architectures))
    table = tabulate(problem, pairs)
    objectives = table.everything.objectives.copy()
    objectives[:, 0] = np.repeat(1.0 - np.array(accuracy)[first], n_clocks)
    measured = Evaluation(objectives=objectives, violations=table.everything.violations)
    return Labelled(
        table=replace(table, everything=measured), architectures=architectures, clock=clock
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget-full", type=int, default=5000)
    parser.add_argument("--labels", type=Path, default=BENCHMARK_PATH)
    parser.add_argument("--strategies", nargs="*", default=None)
    parser.add_argument("--parts", default="abcd")
    parser.add_argument("--weight-sharing-seconds", type=float, default=90.0)
    parser.add_argument("--weight-sharing-seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/bench_search"))
    options = parser.parse_args()
    strategies = options.strategies or [n for n in STRATEGIES.names() if n != "exhaustive"]
    results: list[dict[str, object]] = []
    notes = [
        "Hardware figures are predicted. Accuracy in (a) and (b) comes from a closed form that was "
        "made up for this benchmark; in (c) it was measured by training."
    ]
    if "a" in options.parts:
        problem = joint(HERE / "space_enumerable.yaml", "xc7z020", "l1_100ns")
        genomes = enumerate_space(problem.upper)
        genomes = genomes[(problem.canonicalize(genomes) == genomes).all(axis=1)]
        table = tabulate(problem, genomes)
        truth = archive_of(table, genomes, table.everything).objectives
        infeasible = 1.0 - table.everything.is_feasible.mean()
        results.append(
            study(
                table,
                strategies,
                options.seeds,
                len(genomes) * 3 // 100,
                title=f"(a) all {len(genomes)} pairs enumerated, {100 * infeasible:.0f} % "
                f"infeasible, {len(truth)} on the true front; budget 3 %",
                truth=truth,
            )
        )
    if "b" in options.parts:
        full = joint("mlp_l1", "xcvu13p", "l1_100ns")
        results.append(
            study(
                full,
                strategies,
                options.seeds,
                options.budget_full,
                title=f"(b) the full space mlp_l1, 10^{full.space.log10_size:.1f} genomes",
                truth=None,
            )
        )
    if "c" in options.parts and options.labels.is_file():
        tabled = labelled(options.labels)
        everything = tabled.table.everything
        truth = archive_of(tabled.table, tabled.table.genomes, everything).objectives
        results.append(
            study(
                tabled,
                [name for name in strategies if name not in SHORT],
                options.seeds,
                max(100, len(everything) // 10),
                title=f"(c) {len(tabled.architectures)} architectures labelled by training on the "
                f"bundled jets, {len(everything)} pairs with the clocks; budget 10 %",
                truth=truth,
            )
        )
    elif "c" in options.parts:
        notes.append(f"(c) was left out: {options.labels.name} does not exist.")
    for result in results:
        result["verdict"] = verdict(result)
    if "d" in options.parts:
        from _weight_sharing import compare_weight_sharing

        results.append(
            compare_weight_sharing(
                seconds=options.weight_sharing_seconds,
                n_seeds=options.weight_sharing_seeds,
                n_designs=12,
            )
        )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    import pymoo

    document = {
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pymoo": pymoo.__version__,
        "cpu": platform.processor() or platform.machine(),
        "notes": notes,
        "results": results,
    }
    options.output.with_suffix(".json").write_text(json.dumps(document, indent=1))
    options.output.with_suffix(".html").write_text(page(results, notes))
    for result in results:
        print(result["title"])
        for line in result["verdict"]:  # type: ignore[attr-defined]
            print("  " + line)


if __name__ == "__main__":
    main()
