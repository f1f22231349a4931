"""Figures of what a network answers on the test rows: one per head and kind of curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

_TITLES = {
    "roc": "ROC",
    "histogram": "distribution of the score",
    "response": "response",
    "resolution": "resolution",
    "turn_on": "turn-on",
}


def log_axis(values: Sequence[float], *, multiples: Sequence[int] = (1, 2, 5)) -> dict[str, Any]:
    """Return a logarithmic axis with whole numbers at such multiples of each decade, for values above 0."""
    known = [v for v in values if v > 0] or [1.0]
    if max(known) < 4 * min(known):  # hardly more than one such number would lie in it
        return {"type": "log"}
    decades = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    ticks = [m * 10.0**k for k in decades for m in multiples]
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{tick:,.4g}" if tick < 1e4 else f"{tick:,.0f}" for tick in ticks],
    }


def curve_figures(summary: dict[str, Any]) -> list[tuple[str, go.Figure]]:
    """Return (name, figure) of every head and kind of curve of the winner, and of scores against LUT."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for curve in summary["curves"] or ():
        groups.setdefault((curve["head"], curve["kind"]), []).append(curve)
    trigger = summary["trigger"]
    # one colour per label, whichever curves it has
    labels = dict.fromkeys(curve["label"] for curve in summary["curves"] or ())
    palette = qualitative.Plotly
    colours = {label: palette[i % len(palette)] for i, label in enumerate(labels)}
    figures = []
    for (head, kind), curves in groups.items():
        figure = go.Figure()
        is_rate = kind == "roc" and curves[0]["x_title"].endswith("(kHz)")
        is_log = bool(trigger and kind == "histogram") or is_rate
        positive = [y for curve in curves for y in curve["y"] if y > 0] or [1.0]
        low = max(min(positive) / 2, 1e-6)  # where empty bins and vanishing efficiencies are drawn
        for curve in curves:
            shape = {"shape": "hvh"} if kind == "histogram" else {}
            figure.add_scatter(
                x=curve["x"],
                y=[max(y, low) for y in curve["y"]] if is_log else curve["y"],
                error_y={"array": curve["error"], "thickness": 0.6, "width": 0},
                mode="lines" if kind in ("roc", "histogram") else "lines+markers",
                name=curve["label"],
                line={"color": colours[curve["label"]], **shape},
            )
        figure.update_xaxes(title=curves[0]["x_title"])
        if kind == "roc":
            figure.update_xaxes(
                **log_axis([x for curve in curves for x in curve["x"]], multiples=(1,))
            )
        figure.update_yaxes(title=curves[0]["y_title"])
        if is_log:  # not by plotly: error bars that reach 0 would stretch the axis
            bounds = [math.log10(low), math.log10(max(positive)) + 0.1]
            figure.update_yaxes(type="log", range=bounds, dtick=1, exponentformat="power")
        if trigger and kind == "histogram":
            value = trigger["threshold_word"] * 2.0 ** -trigger["fraction_bits"]
            figure.add_vline(x=value, line_dash="dash", annotation_text="threshold")
        if trigger and is_rate:
            figure.add_vline(x=trigger["rate_khz"], line_dash="dash", annotation_text="threshold")
        figure.update_layout(
            title=f"{head}: {_TITLES[kind]} (trained, test rows)", showlegend=kind != "response"
        )
        figures.append((f"{head}_{kind}", figure))
    return [*figures, *_against_lut(summary)]


def _against_lut(summary: dict[str, Any]) -> list[tuple[str, go.Figure]]:
    """Return one figure per head: what trained designs are worth against their LUTs."""
    trained = summary["finalists"] or ()
    figures = []
    for name in summary["heads"] or {}:
        figure = go.Figure()
        rows = [d for d in trained if name in d["heads"]]
        if len(rows) < 2:
            continue
        figure.add_scatter(
            x=[d["predicted_with_weights"]["lut"]["value"] for d in rows],
            y=[d["heads"][name]["score"] for d in rows],
            error_y={"array": [d["heads"][name]["error"] for d in rows], "thickness": 0.8},
            mode="markers",
            name="finalists",
            text=[d["digest"] for d in rows],
        )
        won = [d for d in rows if summary["winner"] and d["digest"] == summary["winner"]["digest"]]
        figure.add_scatter(
            x=[d["predicted_with_weights"]["lut"]["value"] for d in won],
            y=[d["heads"][name]["score"] for d in won],
            mode="markers",
            name="winner",
            marker={
                "color": "rgba(0,0,0,0)",
                "size": 18,
                "line": {"color": "#b42318", "width": 2.5},
            },
        )
        kind = rows[0]["heads"][name]["kind"]
        unit = f" ({kind['unit']})" if kind["unit"] else ""
        luts = [d["predicted_with_weights"]["lut"]["value"] for d in rows]
        figure.update_xaxes(title="LUT, predicted with weights", **log_axis(luts))
        figure.update_yaxes(title=f"{kind['name']}{unit}")
        figure.update_layout(title=f"{name}: {kind['name']} on the test rows against LUT")
        figures.append((f"{name}_lut", figure))
    return figures
