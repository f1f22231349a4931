"""The self-contained HTML page of a study: interactive plots, tables, provenance; no network needed."""

from __future__ import annotations

import html
import json
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from codesign.report.table import EVIDENCE, cell, number

_COLOURS = {"rtl": "#0b6bcb", "hls": "#c2660c"}
_ROWS = {
    "latency_cycles": "latency, cycles",
    "latency_ns": "latency, ns",
    "interval_cycles": "initiation interval, cycles",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram_18k": "BRAM, 18 kb",
}


def render(summary: dict[str, Any]) -> str:
    """Return the page of a study's summary (see `codesign.report.summary`)."""
    environment = Environment(
        loader=PackageLoader("codesign", "report"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("page.html.j2")
    budget = summary["budget"] or {"limits": {}}
    return template.render(
        s=summary,
        number=number,
        plotly_js=get_plotlyjs(),
        limits=", ".join(f"{name} ≤ {number(limit)}" for name, limit in budget["limits"].items()),
        cards=_cards(summary),
        head_rows=_head_rows(summary),
        chosen_by=_title(summary),
        front_plots=[
            _embed(_front_figure(summary, "lut", "LUT")),
            _embed(_front_figure(summary, "latency_ns", "latency, ns")),
        ],
        graph_svg=_graph(summary),
        layer_header=(
            "layer",
            "reads",
            "width",
            "word bits",
            "weight bits",
            "pruned",
            "strategy",
            "reuse factor",
            "LUT predicted",
            "cycles predicted",
        ),
        layer_rows=_layer_rows(summary),
        evidence=EVIDENCE,
        stage_rows=_stage_rows(summary),
        tool_stage=f"tool stage {summary['budget']['tool_stage']}" if summary["budget"] else "",
        predictor_sentence=_predictor_sentence(summary),
        predictor_plots=_predictor_plots(summary),
        json_text=json.dumps(summary, indent=1),
    )


def _embed(figure: go.Figure) -> str:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 40, "t": 40, "b": 50},
        height=430,
        modebar={"orientation": "v"},
        legend={"orientation": "h", "y": -0.2},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config={"displaylogo": False, "responsive": True},
        )
    )


def _title(summary: dict[str, Any], kind: str = "score_kind") -> str:
    """Return the name of a score with its unit."""
    found = summary[kind] or {"name": "score", "unit": ""}
    return f"{found['name']} ({found['unit']})" if found["unit"] else str(found["name"])


def _head_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return what each head of the winner is worth on the test set."""
    return [
        (name, _title(head, "kind"), f"{head['score']:.4g} ± {head['error']:.2g}")
        for name, head in (summary.get("heads") or {}).items()
    ]


def _cards(summary: dict[str, Any]) -> list[dict[str, str]]:
    if summary["winner"] is None:
        return []
    score, lut = summary["score"], summary["lut"]
    cards = [
        {
            "value": f"{score['quantized']:.4f}",
            "label": f"{_title(summary, 'test_score_kind')} on the test set, trained at precision",
        }
    ]
    for name, label in (
        ("latency_ns", "ns latency"),
        ("latency_cycles", "cycles latency"),
        ("interval_cycles", "initiation interval"),
    ):
        stage = (
            "emulated" if summary[name].get("emulated") is not None else "predicted_with_weights"
        )
        value = summary[name][stage]
        cards.append(
            {
                "value": number(value["value"] if isinstance(value, dict) else value),
                "label": f"{label}, {stage.replace('_', ' ')}",
            }
        )
    cards.append(
        {
            "value": number(lut["predicted_with_weights"]["value"]),
            "label": "LUT, predicted with weights",
        }
    )
    if lut.get("synthesized") is not None:
        cards.append({"value": number(lut["synthesized"]), "label": "LUT, synthesized (Yosys)"})
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


def _front_figure(summary: dict[str, Any], key: str, label: str) -> go.Figure:
    figure = go.Figure()
    title = _title(summary)
    # test rows may be judged by another score than designs are chosen by: one axis shows one score
    tested = summary["score_kind"] == summary["test_score_kind"]
    part, of_finalist, of_winner = (
        ("test", "test_score", "quantized")
        if tested
        else ("validation", "validation_score", "validation")
    )
    points = summary["front"] or []
    for flow, name in (("rtl", "front, predicted (RTL)"), ("hls", "front, predicted (hls4ml)")):
        chosen = [p for p in points if p["flow"] == flow]
        if chosen:
            figure.add_scatter(
                x=[p[key] for p in chosen],
                y=[p["score"] for p in chosen],
                error_y={
                    "array": [p["score_std"] for p in chosen],
                    "thickness": 0.5,
                    "width": 0,
                },
                mode="markers",
                name=name,
                marker={"color": _COLOURS[flow], "size": 6, "opacity": 0.55},
                customdata=[[p["lut"], p["latency_ns"], p["dsp"], p["clock_mhz"]] for p in chosen],
                hovertemplate="%{y:.4f}<br>LUT %{customdata[0]:,.0f}<br>%{customdata[1]:.1f} ns at %{customdata[3]:.0f} MHz<br>DSP %{customdata[2]:.0f}<extra>predicted</extra>",
            )
    finalists = summary["finalists"] or []
    if finalists:
        estimates = [f["predicted_with_weights"][key] for f in finalists]
        figure.add_scatter(
            x=[e["value"] for e in estimates],
            y=[f[of_finalist] for f in finalists],
            error_x={
                "array": [e["high"] - e["value"] for e in estimates],
                "arrayminus": [e["value"] - e["low"] for e in estimates],
                "thickness": 1,
            },
            mode="markers",
            name=f"finalists, {part} set (cost predicted with weights)",
            marker={"color": "#15803d", "size": 10, "symbol": "diamond"},
            text=[f["digest"] for f in finalists],
            hovertemplate=f"%{{text}}<br>{part} %{{y:.4f}}<br>%{{x:,.1f}}<extra>trained</extra>",
        )
    winner = summary["winner"]
    if winner is not None:
        value = summary[key].get("synthesized") or summary[key].get("emulated")
        stage = "synthesized" if summary[key].get("synthesized") else "emulated"
        if value is None:
            value, stage = summary[key]["predicted_with_weights"]["value"], "predicted with weights"
        figure.add_scatter(
            x=[value],
            y=[summary["score"][of_winner]],
            mode="markers",
            name=f"winner ({stage})",
            marker={"color": "#b42318", "size": 16, "symbol": "star"},
        )
    figure.update_layout(title=f"{title} against {label}")
    figure.update_xaxes(title=label, type="log" if key == "lut" else "linear")
    figure.update_yaxes(title=title)
    return figure


def _layer_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    if summary["winner"] is None:
        return []
    return [
        (
            row["name"],
            ", ".join(row["inputs"]) or "-",
            str(row["width"]),
            row["format"],
            row["weights"],
            row["pruned"],
            row["strategy"],
            row["reuse_factor"],
            number(row["lut"]),
            number(row["latency_cycles"]),
        )
        for row in summary["winner"]["nodes"]
    ]


def _stage_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    if summary["winner"] is None:
        return []
    return [
        (label, *(cell(summary[name], evidence) for evidence in EVIDENCE))
        for name, label in _ROWS.items()
    ]


def _graph(summary: dict[str, Any]) -> str:
    """Draw the winner's network as boxes from left to right; arcs are skip connections."""
    if summary["winner"] is None:
        return ""
    rows = summary["winner"]["nodes"]
    step, box, top = 118, 96, 70
    place = {row["name"]: i for i, row in enumerate(rows)}
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
    width = 20 + len(rows) * step
    return (
        f'<svg width="{width}" height="{top + 64}" role="img" aria-label="network graph"><defs>'
        '<marker id="a" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#5b6675"/></marker>'
        f"</defs>{''.join(parts)}</svg>"
    )


def _predictor_sentence(summary: dict[str, Any]) -> str:
    found = summary["predictor"]
    if found is None:
        return ""
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
    scatter.update_layout(title=f"Predicted against trained {_title(summary)} (held out)")
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
    return [_embed(scatter), _embed(rounds)]
