"""The HTML page of a calibration: predicted against reported, residuals per layer type, interval coverage."""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from codesign.synthesis.calibration import CalibrationRun
from hw_models.calibration import CalibrationResult

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #ddd;padding:.3rem .8rem;text-align:right}
td:first-child,th:first-child{text-align:left}h2{margin-top:2.5rem}.bad{color:#a00}.good{color:#060}"""


def _figure(figure: go.Figure, title: str, x: str, y: str, **axes: Any) -> str:
    figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, template="plotly_white", height=420,
        margin={"l": 60, "r": 20, "t": 50, "b": 50}, **axes,
    )  # fmt: skip
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def _scatter(result: CalibrationResult, target: str) -> str:
    """Plot prediction against report on logarithmic axes of value + 1 (zeros stay visible)."""
    reported = np.asarray(result.reported[target])
    known = ~np.isnan(reported)
    figure = go.Figure()
    names = np.array(result.identifiers)[known]
    for label, values, color in (
        ("before", result.before, "#bbb"),
        ("after", result.after, "#1f77b4"),
    ):
        figure.add_trace(
            go.Scatter(
                x=reported[known] + 1, y=np.asarray(values[target])[known] + 1, mode="markers", name=label, text=names,
                marker={"color": color, "size": 6, "opacity": 0.7},
            )
        )  # fmt: skip
    top = float(max(reported[known].max(), np.asarray(result.after[target])[known].max()) + 1)
    figure.add_trace(
        go.Scatter(
            x=[1, top],
            y=[1, top],
            mode="lines",
            name="equal",
            line={"color": "#444", "dash": "dot"},
        )
    )
    return _figure(
        figure, f"{target}: predicted (held out) against reported", "reported + 1", "predicted + 1",
        xaxis_type="log", yaxis_type="log",
    )  # fmt: skip


def _residuals(result: CalibrationResult, target: str) -> str:
    """Plot log residuals by layer type; a design counts under each of its types."""
    reported, after = np.asarray(result.reported[target]), np.asarray(result.after[target])
    residual = np.log2((reported + 1) / (after + 1))
    figure = go.Figure()
    kinds = sorted({kind for kinds in result.layer_types for kind in kinds})
    for kind in kinds:
        rows = [
            i
            for i, own in enumerate(result.layer_types)
            if kind in own and not np.isnan(residual[i])
        ]
        if rows:
            figure.add_trace(
                go.Box(y=residual[rows], name=f"{kind} ({len(rows)})", boxpoints="outliers")
            )
    return _figure(
        figure,
        f"{target}: held-out residuals by layer type",
        "",
        "log2(reported / predicted)",
        showlegend=False,
    )


def _coverage(result: CalibrationResult) -> str:
    targets = list(result.errors)
    figure = go.Figure(
        go.Bar(
            x=targets,
            y=[100 * result.errors[target].coverage for target in targets],
            marker_color="#1f77b4",
        )
    )
    for level in (85, 95):
        figure.add_hline(y=level, line_dash="dot", line_color="#a00")
    return _figure(
        figure,
        "share of held-out designs inside their 90 % interval",
        "",
        "per cent",
        yaxis_range=[0, 100],
    )


def _table(result: CalibrationResult) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(target)}</td><td>{error.n}</td><td>{error.before:.1f}</td><td>{error.after:.1f}</td>"
        f"<td>{'accepted' if error.is_accepted else f'left as it was (refit: {error.tried:.1f})'}</td>"
        f"<td>{100 * error.coverage_before:.0f}</td><td>{100 * error.coverage:.0f}</td></tr>"
        for target, error in result.errors.items()
    )
    return (
        "<table><tr><th>target</th><th>n</th><th>SMAPE before, %</th><th>SMAPE after, %</th>"
        f"<th>refit</th><th>90 % interval covered before, %</th><th>covers now, %</th></tr>{rows}</table>"
    )


def _stage(stage: str, result: CalibrationResult) -> str:
    verdict = (
        '<p class="good">Held-out error fell: these coefficients were accepted.</p>'
        if result.is_better
        else '<p class="bad">Held-out error did not fall: the coefficients stay as they were.</p>'
    )
    plots = "".join(
        _scatter(result, target) + _residuals(result, target) for target in result.errors
    )
    return (
        f"<h2>Stage {html.escape(stage)}</h2>{verdict}<p>{result.n_records} designs in {result.n_groups} groups; "
        "every prediction is made by a fit that had not seen the design's group. Before: the coefficients as they "
        f"were. SMAPE = 200 % |y - p| / (|y| + |p| + 1).</p>{_table(result)}{_coverage(result)}{plots}"
    )


def calibration_page(run: CalibrationRun) -> str:
    """Render a calibration as one self-contained HTML page."""
    stages = "".join(_stage(stage, result) for stage, result in run.results.items())
    steps = "".join(
        f"<tr><td>csynth to {html.escape(stage)}: {html.escape(target)}</td><td>{error.n}</td><td>{error.before:.1f}</td>"
        f"<td>{error.after:.1f}</td></tr>"
        for stage, errors in run.steps.items()
        for target, error in errors.items()
    )
    if steps:
        stages += (
            "<h2>Steps between stages</h2><p>The later report predicted from the csynth report; before: with the "
            "step as it was. A step is kept only where the held-out error fell.</p><table><tr><th>step</th><th>n</th>"
            f"<th>SMAPE before, %</th><th>SMAPE after, %</th></tr>{steps}</table>"
        )
    skipped = "".join(
        f"<li>{html.escape(stage)}: {html.escape(reason)}</li>"
        for stage, reason in run.skipped.items()
    )
    designs = "".join(
        f"<tr><td>{html.escape(design.id)}</td><td>{html.escape(', '.join(design.used_for) or 'not used')}</td>"
        f"<td>{html.escape(design.reason)}</td></tr>"
        for design in run.designs
    )
    rejected = "".join(
        f"<li>{html.escape(str(item.path))}: {html.escape(item.reason)}</li>"
        for item in run.rejections
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Calibration of the hardware models</title>"
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        "<h1>Calibration of the hardware models</h1>"
        f"<p>Started from {html.escape(run.start)}. {len(run.designs)} designs, "
        f"{len(run.designs) - len(run.unused)} of them used.</p>"
        f"{stages}<h2>Not fitted</h2><ul>{skipped}</ul>"
        f"<h2>Designs ({len(run.designs)})</h2><table><tr><th>design</th><th>used for</th><th>what not, and why</th>"
        f"</tr>{designs}</table>"
        f"<h2>Files left out ({len(run.rejections)})</h2><ul>{rejected}</ul></body></html>"
    )
