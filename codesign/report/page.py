"""The self-contained HTML page of a study: verdict, front, why, proof, how to go on; no network needed."""

from __future__ import annotations

import html
import json
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from codesign.front import METRICS, Design
from codesign.report.curves import curve_figures, log_axis
from codesign.report.table import EVIDENCE, KEY, LABELS, cell, marked, number, title_of
from codesign.results import Evidence

_COLOURS = {"rtl": "#0b6bcb", "hls": "#c2660c"}
_FLOWS = {"rtl": "plain RTL", "hls": "hls4ml"}


def render(summary: dict[str, Any]) -> str:
    """Return the page of a study's summary (see `codesign.report.summary`)."""
    environment = Environment(
        loader=PackageLoader("codesign", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    designs = [Design.model_validate(value) for value in summary["front"] or []]
    budget = summary["budget"] or {"limits": {}}
    score = title_of(summary["score_kind"])
    return environment.get_template("page.html.j2").render(
        s=summary,
        score=score,
        tested=title_of(summary["test_score_kind"]),
        number=number,
        plotly_js=get_plotlyjs(),
        limits=", ".join(f"{name} ≤ {number(limit)}" for name, limit in budget["limits"].items()),
        cards=_cards(summary),
        head_rows=[
            (name, title_of(head["kind"]), f"{head['score']:.4g} ± {head['error']:.2g}")
            for name, head in (summary["heads"] or {}).items()
        ],
        curve_plots=[_embed(figure, name=name) for name, figure in curve_figures(summary)],
        front_plots=[
            _embed(_front_figure(summary, designs, score, "lut"), name="front_lut"),
            _embed(_front_figure(summary, designs, score, "latency_ns"), name="front_ns"),
        ]
        if designs
        else [],
        trained=[d for d in designs if d.state == "trained"],
        marked=marked,
        key=KEY,
        flows=_FLOWS,
        designs_json=_safe_json({d.digest: _details(d) for d in designs}),
        graph_svg=_graph(summary),
        evidence=EVIDENCE,
        figure_rows=_figure_rows(summary),
        predictor_sentence=_predictor_sentence(summary),
        predictor_plots=_predictor_plots(summary),
        json_text=json.dumps(
            {**summary, "front": [d.digest for d in designs], "curves": None},
            indent=1,
            ensure_ascii=False,
        ),
    )


def _safe_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


def _embed(figure: go.Figure, *, name: str) -> str:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 44, "b": 50},
        height=460,
        hovermode="closest",
        legend={"orientation": "h", "y": -0.16},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=name,
            config={"displayModeBar": False, "responsive": True},
        )
    )


def _details(design: Design) -> dict[str, Any]:
    """Return what a click on a design shows."""
    return {
        "title": f"{design.digest} ({_FLOWS.get(design.flow, design.flow)}, {design.clock_mhz:.0f} MHz, {design.state})",
        "facts": [
            f"score {design.score:.4f} ± {design.score_error:.4f}"
            + ("" if design.test_score is None else f", {design.test_score:.4f} on test rows"),
            *(
                f"{LABELS[name]}: {number(figure.value)} ({figure.evidence.label})"
                for name, figure in design.figures.items()
            ),
        ],
        "layers": design.layers,
        "untrained": design.state != "trained",
    }


def _cards(summary: dict[str, Any]) -> list[dict[str, str]]:
    if summary["winner"] is None:
        return []
    test = summary["score"]["test"]
    cards = [
        {
            "value": f"{test['value']:.4f} ± {test['standard_error']:.4f}",
            "label": f"{title_of(summary['test_score_kind'])} on test rows, trained at precision",
        }
    ]
    for name in ("latency_ns", "latency_cycles", "interval_cycles", "lut", "ff", "dsp"):
        known = summary["figures"][name]
        if known:
            evidence, figure = list(known.items())[-1]
            cards.append(
                {
                    "value": number(figure["value"]),
                    "label": f"{LABELS[name]}, {Evidence(evidence).label}",
                }
            )
    compared = [
        row for row in (summary["mismatches"] or {}).values() if row["mismatches"] is not None
    ]
    if compared:
        wrong = sum(row["mismatches"] for row in compared)
        cards.append(
            {
                "value": f"{wrong} of {sum(r['vectors'] for r in compared):,}",
                "label": f"vectors differ, {len(compared)} implementations",
            }
        )
    return cards


def _front_figure(
    summary: dict[str, Any], designs: list[Design], score: str, metric: str
) -> go.Figure:
    """Plot score against a cost: trained designs in front of predicted ones, trivial answers as lines."""
    figure = go.Figure()
    for state, size, opacity in (("predicted", 6, 0.3), ("trained", 11, 1.0)):
        for flow, colour in _COLOURS.items():
            chosen = [d for d in designs if d.state == state and d.flow == flow]
            if not chosen:
                continue
            figure.add_scatter(
                x=[d.figures[metric].value for d in chosen],
                y=[d.score for d in chosen],
                error_y={
                    "array": [d.score_error for d in chosen],
                    "thickness": 1.2,
                    "width": 3,
                    "visible": state == "trained",
                },
                mode="markers",
                name=f"{state}, {_FLOWS[flow]}",
                customdata=[d.digest for d in chosen],
                text=[d.figures[metric].evidence.label for d in chosen],
                marker={
                    "color": colour,
                    "size": size,
                    "opacity": opacity,
                    "symbol": "diamond" if state == "trained" else "circle",
                },
                hovertemplate="%{customdata}<br>%{y:.4f} at %{x:,.1f} (%{text})<extra>click for layers</extra>",
            )
    winner = next((d for d in designs if d.is_winner), None)
    if winner is not None:
        figure.add_scatter(
            x=[winner.figures[metric].value],
            y=[winner.score],
            mode="markers",
            name="winner",
            customdata=[winner.digest],
            marker={
                "color": "rgba(0,0,0,0)",
                "size": 21,
                "line": {"color": "#b42318", "width": 2.5},
            },
            hovertemplate="%{customdata}<extra>winner</extra>",
        )
    scores = [d.score for d in designs]
    span = max(scores) - min(scores) or 0.01
    for baseline in summary["baselines"] or []:
        value = baseline["validation"]["value"]
        if min(scores) - span < value:  # a far one would flatten the front
            figure.add_hline(
                y=value,
                line={"dash": "dot", "color": "#5b6675", "width": 1},
                annotation={
                    "text": baseline["description"],
                    "font": {"size": 11},
                    "bgcolor": "rgba(255,255,255,0.85)",
                },
            )
    figure.update_layout(title=f"{score} against {LABELS[metric]}")
    figure.update_xaxes(title=LABELS[metric])
    if metric == "lut":
        figure.update_xaxes(**log_axis([d.figures[metric].value for d in designs]))
    figure.update_yaxes(title=score, range=_score_range(designs))
    return figure


def _score_range(designs: list[Design]) -> list[float] | None:
    """Return what the score's axis shows at first: trained designs, and as much again below them.

    A front begins with designs of a dozen LUTs and poor scores, which would press those that matter into a line.
    """
    trained = [d for d in designs if d.state == "trained"]
    if not trained:
        return None
    low = min(d.score - d.score_error for d in trained)
    high = max(d.score + d.score_error for d in trained)
    span = max(high - low, 0.01)
    least, greatest = min(d.score for d in designs), max(d.score for d in designs)
    return [max(low - span, least - 0.1 * span), max(high, min(greatest, high + span)) + 0.1 * span]


def _figure_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    if summary["winner"] is None:
        return []
    return [
        (LABELS[name], *(cell(summary, name, evidence) for evidence in EVIDENCE))
        for name in METRICS
    ]


def _graph(summary: dict[str, Any]) -> str:
    """Draw the winner's network as boxes from left to right; arcs are skip connections."""
    if summary["winner"] is None:
        return ""
    rows = summary["winner"]["nodes"]
    place = {row["name"]: i for i, row in enumerate(rows)}
    skips = any(i != place[source] + 1 for i, row in enumerate(rows) for source in row["inputs"])
    step, box, top = 118, 96, 70 if skips else 10
    parts = []
    for i, row in enumerate(rows):
        for source in row["inputs"]:
            j = place[source]
            x1, x2 = 10 + j * step + box, 10 + i * step
            if i == j + 1:
                parts.append(
                    f'<line x1="{x1}" y1="{top + 24}" x2="{x2}" y2="{top + 24}" stroke="#5b6675" marker-end="url(#a)"/>'
                )
            else:
                a, b = 10 + j * step + box / 2, 10 + i * step + box / 2
                parts.append(
                    f'<path d="M{a},{top} C{a},{top - 50} {b},{top - 50} {b},{top - 3}" fill="none" stroke="#0b6bcb" marker-end="url(#a)"/>'
                )
    for i, row in enumerate(rows):
        x = 10 + i * step
        fill = "#eaf3fd" if row["layer"] == "dense" else "#f5f7f9"
        parts.append(
            f'<rect x="{x}" y="{top}" width="{box}" height="48" rx="7" fill="{fill}" stroke="#9aa5b1"/>'
            f'<text x="{x + box / 2}" y="{top + 20}" text-anchor="middle" fill="#1c2430">{html.escape(row["name"])}</text>'
            f'<text x="{x + box / 2}" y="{top + 38}" text-anchor="middle" fill="#5b6675">{row["width"]} × {html.escape(row["bits"])} b</text>'
        )
    width, height = 20 + len(rows) * step, top + 64
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:100%;width:{width}px" role="img" aria-label="network graph"><defs>'
        '<marker id="a" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#5b6675"/></marker>'
        f"</defs>{''.join(parts)}</svg>"
    )


def _predictor_sentence(summary: dict[str, Any]) -> str:
    found = summary["predictor"]
    if found is None:
        return ""
    if found["method"] == "constant":
        return str(found["why"])
    verdict = (
        f"better than the number of parameters (tau {found['tau_parameters']:.3f})"
        if found["tau"] > found["tau_parameters"]
        else f"no better than the number of parameters (tau {found['tau_parameters']:.3f}): trust the trained figures only"
    )
    return (
        f"{found['method']}, trained on {found['n_train']} labels: Kendall tau {found['tau']:.3f} on {found['n_held_out']} labels"
        f" held out, {verdict}. {100 * found['coverage']:.0f} % of held-out labels lie in the predicted 90 % interval. {found['why']}"
    )


def _predictor_plots(summary: dict[str, Any]) -> list[str]:
    if not summary["rounds"]:
        return []
    held = summary["predictor"]["held_out"]
    scatter = go.Figure()
    scatter.add_scatter(
        x=held["label"],
        y=held["mean"],
        error_y={"array": [1.645 * s for s in held["std"]], "thickness": 0.6, "width": 0},
        mode="markers",
        name="held-out labels, 90 % interval",
        marker={"size": 6, "color": "#0b6bcb"},
    )
    ends = [min(held["label"] + held["mean"]), max(held["label"] + held["mean"])]
    scatter.add_scatter(
        x=ends, y=ends, mode="lines", name="equal", line={"color": "#9aa5b1", "dash": "dot"}
    )
    scatter.update_layout(title="Predicted against trained (held out)")
    scatter.update_xaxes(title="trained")
    scatter.update_yaxes(title="predicted")
    rounds = go.Figure()
    numbers = [i + 1 for i in range(len(summary["rounds"]))]
    for key, name in (("tau", "predictor"), ("tau_parameters", "number of parameters")):
        rounds.add_scatter(
            x=numbers,
            y=[r[key] for r in summary["rounds"]],
            mode="lines+markers",
            name=name,
        )
    rounds.update_layout(title="Kendall tau on held-out labels, by round")
    rounds.update_xaxes(title="round", dtick=1)
    rounds.update_yaxes(title="Kendall tau")
    return [_embed(scatter, name="predictor_scatter"), _embed(rounds, name="predictor_rounds")]
