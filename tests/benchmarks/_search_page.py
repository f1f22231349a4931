"""The page and the tables of `make bench-search`, from its JSON."""

import html
from typing import Any, Final

import numpy as np

#: One colour per strategy, told apart by readers with colour-vision deficiencies as far as twelve can.
PALETTE: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#6A3D9A",
    "#B2DF8A", "#A6761D", "#17BECF", "#E7298A",
)  # fmt: skip
#: Below this share of the hypervolume nothing is missing, on a logarithmic axis.
FLOOR: Final = 1e-5
STYLE: Final = """
body{font:16px/1.55 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h1{margin-bottom:.2rem}h2{margin-top:3rem;border-top:1px solid #ccc;padding-top:1.2rem}
table{border-collapse:collapse;font-size:14px;margin:1rem 0;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right;vertical-align:bottom}
td:first-child,th:first-child{text-align:left}th{font-weight:600}
tr.default td{background:#eef5fb;font-weight:600}.small{color:#555;font-size:14px}
.met{color:#00734f;font-weight:600}.missed{color:#b03a00;font-weight:600}
figcaption{color:#444;font-size:14px;margin-top:.3rem}figure{margin:1.2rem 0}
"""

Row = list[str]


def page(document: dict[str, Any]) -> str:
    """Render one self-contained HTML page."""
    from plotly.offline import get_plotlyjs

    made = (
        f"Commit {document['commit']}, {document['date']}; Python {document['python']}, NumPy "
        f"{document['numpy']}, PyTorch {document['torch']}, pymoo {document['pymoo']}; "
        f"{document['cpu']}, {document['n_workers']} processes; "
        f"{document['wall_s'] / 60:.0f} minutes in all."
    )
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<title>Search strategies compared</title>"
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f"<h1>Search strategies compared</h1><p class='small'>{html.escape(made)}</p>",
        "".join(f"<p>{html.escape(note)}</p>" for note in document["notes"]),
        "<h2>In short</h2>",
        _table(*bars(document), mark=2),
    ]
    for result in document["results"]:
        parts.append(f"<h2>{html.escape(result['title'])}</h2><ul>")
        parts += [f"<li>{html.escape(line)}</li>" for line in result["verdict"]]
        parts.append("</ul>")
        parts.append(SECTIONS[result["kind"]](result))
    parts.append("</body></html>")
    return "".join(parts)


def markdown(document: dict[str, Any]) -> str:
    """Return the tables of docs/search.md."""
    parts = [_markdown_table(*bars(document))]
    for result in document["results"]:
        parts.append(f"**{result['title']}**")
        parts += [_markdown_table(*table(result)) for table in TABLES[result["kind"]]]
    return "\n\n".join(parts)


# ---- tables -----------------------------------------------------------------------------------------
def bars(document: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return the bars of the project beside what was reached."""
    rows: list[Row] = []
    for result in document["results"]:
        letter = result["title"][:3]
        if result["kind"] == "strategies":
            mine = result["strategies"].get(result["default"])
            if mine is None:
                continue
            shares, n = mine["final_hypervolume_share"], result["n_seeds"]
            reached = f"{100 * min(shares):.2f} % in the worst of {n} seeds, {result['default']}"
            if result["has_hypervolume_bar"]:
                met = min(shares) >= 0.99
                rows.append(
                    [
                        f"{letter} 99 % of the true hypervolume within 3 % of the space",
                        reached,
                        _met(met),
                    ]
                )
            ahead = mine.get("seeds_ahead_of_random_at_every_budget_from_500")
            if ahead is not None:
                rows.append(
                    [
                        f"{letter} ahead of random at every budget from 500 up",
                        f"in {ahead} of {n} seeds",
                        _met(ahead == n),
                    ]
                )
            ranked = sorted(
                result["strategies"],
                key=lambda s: -np.mean(result["strategies"][s]["area_under_curve"]),
            )
            place = 1 + ranked.index(result["default"])
            rows.append(
                [
                    f"{letter} place of the default over the whole curve",
                    f"{place} of {len(ranked)}",
                    "",
                ]
            )
        elif result["kind"] == "weight_sharing":
            shares = result["hypervolume_share_of_union"]
            for name in ("supernet", "differentiable"):
                gap = 1.0 - float(np.mean(np.array(shares[name]) / np.array(shares["evolution"])))
                rows.append(
                    [
                        f"{letter} {name} within 3 % of the default at equal time",
                        f"{100 * abs(gap):.1f} % {'below' if gap > 0 else 'above'}",
                        _met(gap <= 0.03),
                    ]
                )
        else:
            row = result["rows"][0]
            rows.append(
                [
                    f"{letter} {row['n_evaluations']:,} evaluations in 60 s, half of it for the strategy",
                    f"{row['cpu_s']:.1f} s of one core, {row['strategy_s']:.1f} s of them the strategy",
                    _met(row["cpu_s"] <= 60 and row["strategy_s"] <= 30),
                ]
            )
    return ["bar", "reached", "met"], rows


def _met(value: bool) -> str:
    return "yes" if value else "no"


def strategy_table(result: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return one row per strategy, the best over the whole curve first."""
    head = [
        "strategy", "evaluations", "hypervolume at 500", "at the end", "worst seed",
        "median attainment", "regret (IGD+)", "front found", "ahead of random", "p against random",
        "p against the default", "own s / 1000",
    ]  # fmt: skip
    rows = []
    entries = result["strategies"]
    order = sorted(
        entries,
        key=lambda n: (
            entries[n]["final_checkpoint"] < result["budget"],
            -float(np.mean(entries[n]["area_under_curve"])),
        ),
    )
    for name in order:
        entry = entries[name]
        shares, early = entry["final_hypervolume_share"], entry["share_at_500"]
        rows.append(
            [
                name,
                f"{entry['final_checkpoint']:,}",
                "-" if early is None else f"{np.mean(early):.3f}",
                f"{np.mean(shares):.4f}",
                f"{min(shares):.4f}",
                f"{entry['median_attained_hypervolume']:.4f}",
                f"{np.mean(entry['regret']):.4f}",
                f"{np.mean(entry['share_of_front_found']):.2f}",
                str(entry.get("seeds_ahead_of_random_at_every_budget_from_500", "-")),
                _p(entry.get("p_value_against_random")),
                _p(entry.get("p_value_against_" + result["default"])),
                f"{np.median(entry['strategy_s_per_1000']):.2f}",
            ]
        )
    return head, rows


def contender_table(result: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return one row per contender of (d)."""
    head = [
        "contender", "hypervolume share, mean", "worst seed", "best accuracy", "mean accuracy",
        "least LUT", "CPU s",
    ]  # fmt: skip
    rows = []
    for name, shares in result["hypervolume_share_of_union"].items():
        runs = [run[name] for run in result["runs"]]
        rows.append(
            [
                name,
                f"{np.mean(shares):.3f}",
                f"{min(shares):.3f}",
                f"{np.mean([r['best_score'] for r in runs]):.4f}",
                f"{np.mean([r['mean_score'] for r in runs]):.4f}",
                f"{np.mean([r['least_lut'] for r in runs]):,.0f}",
                f"{np.mean([r['cpu_s'] for r in runs]):.0f}",
            ]
        )
    return head, rows


def training_table(result: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return what a supernet's weights are worth beside training from scratch."""
    training = result["training"]
    rows = [
        ["shared weights, no training", f"{training['shared']:.4f}", f"{training['shared_s']:.2f}"]
    ]
    for name, text in (
        ("scratch_1", "from scratch, 1 epoch"),
        ("fine_tuned_1", "fine-tuned, 1 epoch"),
        ("scratch_8", "from scratch, 8 epochs"),
        ("fine_tuned_8", "fine-tuned, 8 epochs"),
    ):
        rows.append([text, f"{training[name]:.4f}", f"{training[name + '_s']:.2f}"])
    return ["training of the supernet's designs", "accuracy", "s per design"], rows


def network_table(result: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Return one row per predictor of (e)."""
    head = ["predictor", "evaluations", "CPU s", "s on the clock", "evaluation s", "strategy s"]
    rows = [
        [
            row["predictor"],
            f"{row['n_evaluations']:,}",
            *(f"{row[key]:.1f}" for key in ("cpu_s", "wall_s", "evaluate_s", "strategy_s")),
        ]
        for row in result["rows"]
    ]
    return head, rows


TABLES: Final = {
    "strategies": (strategy_table,),
    "weight_sharing": (contender_table, training_table),
    "network": (network_table,),
}


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _table(head: Row, rows: list[Row], *, default: str = "", mark: int = -1) -> str:
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = [f"<table><tr>{cells}</tr>"]
    for row in rows:
        kind = " class='default'" if row[0] == default and default else ""
        texts = []
        for i, cell in enumerate(row):
            style = (
                {"yes": " class='met'", "no": " class='missed'"}.get(cell, "") if i == mark else ""
            )
            texts.append(f"<td{style}>{html.escape(cell)}</td>")
        lines.append(f"<tr{kind}>{''.join(texts)}</tr>")
    return "".join(lines) + "</table>"


def _markdown_table(head: Row, rows: list[Row]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


# ---- figures ----------------------------------------------------------------------------------------
def _figure(figure: Any, caption: str) -> str:
    figure.update_layout(
        template="plotly_white",
        font={"size": 14},
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        legend={"font": {"size": 12}},
    )
    plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return f"<figure>{plot}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _colour(result: dict[str, Any], name: str) -> str:
    if name == result["default"]:
        return "#000000"
    if name == "random":
        return "#888888"
    others = sorted(n for n in result["strategies"] if n not in (result["default"], "random"))
    return PALETTE[others.index(name) % len(PALETTE)]


def strategies_section(result: dict[str, Any]) -> str:
    """Return curves, final values, attainment and the table of one comparison."""
    return "".join(
        [
            _curves(result),
            _finals(result),
            _attainment(result),
            _table(*strategy_table(result), default=result["default"]),
            "<p class='small'>Hypervolume as a share of the reference front's, objectives scaled to its "
            "box, reference point 1.1. Ordered by the mean over the curve (logarithmic budgets). Median "
            "attainment: hypervolume of what at least half of the seeds reach. IGD+: mean scaled "
            "distance from the reference front to what was found. Ahead of random: seeds in which the "
            "strategy is ahead at every checkpoint from 500 evaluations up. p: Wilcoxon signed rank over "
            "paired seeds on the mean of the curve, Holm-corrected. Own s: CPU seconds of strategy, log "
            "and archive.</p>",
        ]
    )


def _curves(result: dict[str, Any]) -> str:
    import plotly.graph_objects as go

    figure = go.Figure()
    order = sorted(
        result["strategies"],
        key=lambda n: (n in (result["default"], "random"), n),
    )
    for name in order:
        curves = np.array(result["strategies"][name]["curves"], dtype=float)
        keep = ~np.isnan(curves[0])
        x = np.array(result["checkpoints"])[keep]
        missing = np.maximum(1.0 - curves[:, keep], FLOOR)
        low, middle, high = np.quantile(missing, [0.25, 0.5, 0.75], axis=0)
        colour = _colour(result, name)
        is_default = name == result["default"]
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=_faint(colour, 0.22 if is_default else 0.10),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )
        figure.add_scatter(
            x=x,
            y=middle,
            name=name,
            legendgroup=name,
            mode="lines",
            line={
                "color": colour,
                "width": 4 if is_default else 1.8,
                "dash": "dash" if name == "random" else "solid",
            },
        )
    figure.add_vline(x=500, line={"color": "#bbbbbb", "dash": "dot", "width": 1})
    figure.update_layout(
        xaxis={
            "title": "evaluations",
            "type": "log",
            **_log_ticks(1, 5),
        },
        yaxis={
            "title": "share of the hypervolume still missing",
            "type": "log",
            **_log_ticks(-5, 0),
        },
        height=540,
    )
    return _figure(
        figure,
        f"What is missing of the hypervolume, lower is better: median of {result['n_seeds']} seeds, bands "
        f"from quartile to quartile; {FLOOR:g} stands for nothing. Click a name to hide it.",
    )


def _finals(result: dict[str, Any]) -> str:
    import plotly.graph_objects as go

    entries = result["strategies"]
    full = [n for n in entries if entries[n]["final_checkpoint"] == result["budget"]]
    order = sorted(full, key=lambda n: float(np.median(entries[n]["final_hypervolume_share"])))
    figure = go.Figure()
    for name in order:
        figure.add_box(
            x=entries[name]["final_hypervolume_share"],
            name=name,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"color": _colour(result, name), "size": 5},
            line={"width": 1.2},
            fillcolor="rgba(0,0,0,0)",
        )
    figure.update_layout(
        xaxis={"title": f"share of the hypervolume after {result['budget']:,} evaluations"},
        showlegend=False,
        height=140 + 30 * len(order),
    )
    return _figure(figure, "Every point is one seed; boxes are quartiles.")


def _attainment(result: dict[str, Any]) -> str:
    import plotly.graph_objects as go

    entries = result["strategies"]
    ranked = sorted(entries, key=lambda n: -float(np.mean(entries[n]["final_hypervolume_share"])))
    rival = next((n for n in ranked if n not in (result["default"], "random")), None)
    figure = go.Figure()
    for name in (rival, "random", result["default"]):
        surfaces = None if name not in entries else entries[name]["attainment"]
        if surfaces is None:
            continue
        for share, dash, width in (
            ("all", "dot", 1.2),
            ("half", "solid", 2.5),
            ("any", "dash", 1.2),
        ):
            points = np.array(surfaces[share])
            figure.add_scatter(
                x=points[:, 1],
                y=100 * (1.0 - points[:, 0]),
                mode="lines",
                line={"color": _colour(result, name), "dash": dash, "width": width, "shape": "hv"},
                name=name,
                legendgroup=name,
                showlegend=share == "half",
            )
    figure.update_layout(
        xaxis={"title": "LUT (predicted)", "type": "log", **_log_ticks(1, 6)},
        yaxis={"title": "accuracy in %"},
        height=420,
    )
    return _figure(
        figure,
        "Attainment at the end, seen in accuracy and LUT: reached by every seed (dotted), by half of them "
        "(solid), by any (dashed); up and to the left is better.",
    )


def _log_ticks(low: int, high: int) -> dict[str, list[Any]]:
    """Return ticks at 1, 2 and 5 of every decade from 10**low to 10**high."""
    values = [digit * 10.0**power for power in range(low, high) for digit in (1, 2, 5)]
    values.append(10.0**high)
    return {"tickvals": values, "ticktext": [f"{value:,.10g}" for value in values]}


def _faint(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def weight_sharing_section(result: dict[str, Any]) -> str:
    """Return the seeds of (d), its tables and what they mean."""
    import plotly.graph_objects as go

    shares = result["hypervolume_share_of_union"]
    figure = go.Figure()
    names = list(shares)
    for i in range(result["n_seeds"]):
        figure.add_scatter(
            x=names,
            y=[shares[name][i] for name in names],
            mode="lines+markers",
            line={"color": "#bbbbbb", "width": 1},
            marker={"size": 7, "color": "#0072B2"},
            showlegend=False,
            name=f"seed {i}",
        )
    figure.add_scatter(
        x=names,
        y=[float(np.mean(shares[name])) for name in names],
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 40, "color": "#000000", "line": {"width": 3}},
        showlegend=False,
        name="mean",
    )
    figure.update_layout(yaxis={"title": "share of the union's hypervolume"}, height=400)
    return "".join(
        [
            _figure(
                figure,
                f"Each grey line is one seed: the same {result['seconds']:.0f} CPU seconds for everybody, "
                "designs trained alike afterwards; black bars are means.",
            ),
            _table(*contender_table(result), default="evolution"),
            _table(*training_table(result)),
            "<p class='small'>evolution: labels by short training, a Gaussian process, the default strategy "
            "over the whole space. evolution_on_chains: the same, restricted to the plain chains (no skips) "
            "that weight sharing can reach. Every architecture counts with all its flows, clocks, strategies "
            "and reuse factors that fit the budget.</p>",
        ]
    )


def network_section(result: dict[str, Any]) -> str:
    """Return the table of (e)."""
    return _table(*network_table(result)) + (
        f"<p class='small'>Fitting the graph networks took {result['fit_s']:.0f} CPU seconds and is not "
        "part of the search.</p>"
    )


SECTIONS: Final = {
    "strategies": strategies_section,
    "weight_sharing": weight_sharing_section,
    "network": network_section,
}
