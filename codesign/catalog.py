"""What can be chosen, by kind, with one line each and where it is used: for `codesign list`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from codesign.config import read_yaml
from codesign.errors import ConfigError, unknown_name
from codesign.registry import Registry
from codesign.resources import data_root

#: One choice: its name, one line, and figures of it by column.
Row = tuple[str, str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of things to choose from.

    Attributes:
        use: where a name of this kind is written.
        rows: finds what there is.
    """

    use: str
    rows: Callable[[], list[Row]]


def _files(folder: str, figures: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> list[Row]:
    """List the YAML files of one folder of `constraints`, with figures of each."""
    rows = []
    for path in sorted((data_root("constraints") / folder).glob("*.yaml")):
        value = read_yaml(path)
        rows.append((path.stem, str(value["source"]), figures(value)))
    return rows


def _device_figures(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value[key] for key in ("part", "lut", "ff", "dsp", "bram_18k", "n_slr")}


def _budget_figures(value: Mapping[str, Any]) -> Mapping[str, Any]:
    interval = [f"{value[k]} {k.rpartition('_')[2]}" for k in value if k.startswith("interval_")]
    granted = {
        name: f"{100 * share:g} % of {value['of']}" for name, share in value["share"].items()
    }
    for name, most in value.get("maximum", {}).items():
        granted[name] += f", at most {most}"
    return {
        "latency_ns": value["latency_ns"],
        "interval": interval[0] if interval else "",
        **granted,
    }


def _space_figures(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"template": value["template"], "domains": ", ".join(value["domains"])}


def _registry(module: str, attribute: str) -> list[Row]:
    registry: Registry[Any] = getattr(importlib.import_module(module), attribute)
    return [(name, registry.description(name), {}) for name in registry.names()]


#: Weight sharing, rewards and proxies are chosen by a word of the study file, and are no registries.
WEIGHT_SHARING: Final = {
    "supernet": "Once-for-All: one elastic network trained by progressive shrinking (arXiv 1908.09791).",
    "proxylessnas": "ProxylessNAS: paths drawn by learned gates, priced by expected cost (arXiv 1812.00332).",
    "darts1": "DARTS, first order: architecture weights follow the gradient of one step (arXiv 1806.09055).",
    "darts2": "DARTS, second order: through a step of the weights (arXiv 1806.09055).",
    "drnas": "DrNAS: architecture weights drawn from a learned Dirichlet distribution (arXiv 2006.10355).",
}
REWARDS: Final = {
    "mnasnet": "score x (cost / target)^w (arXiv 1807.11626).",
    "log_cost": "score - weight log(cost).",
    "linear_penalty": "score - weight max(0, cost / target - 1).",
    "contract": "the limits in order of importance, then the score.",
}
PROXIES: Final = {
    "fisher": "squared, batch-averaged result * gradient of nodes with matrices, summed over layers and lanes.",
    "snip": "|weight * gradient of the loss|, summed (Lee et al., ICLR 2019).",
    "grad_norm": "Euclidean norms of the loss gradient, summed over matrices.",
    "jacobian_covariance": "how little the input gradients of different rows are correlated.",
    "naswot": "log |det K|, K: how many hidden activations agree on being above 0 for two rows.",
    "synflow": "log(1 + sum of |weight| * gradient) of an all-ones input through absolute weights.",
    "vote": "pairwise majority of all of these (arXiv 2101.08134).",
}


def _words(words: Mapping[str, str]) -> Callable[[], list[Row]]:
    return lambda: [(name, text, {}) for name, text in words.items()]


def _figures() -> list[Row]:
    from codesign.search.profilers import COUNTED, FIGURES, PREDICTED

    says = dict.fromkeys(FIGURES, "counted from weights and word widths")
    says |= dict.fromkeys(PREDICTED, "predicted for the device")
    says |= dict.fromkeys(COUNTED, "counted from the operations of one inference")
    return [(name, f"{text}.", {}) for name, text in says.items()]


KINDS: Final[Mapping[str, Kind]] = {
    "devices": Kind(use="`device:` of a study", rows=lambda: _files("devices", _device_figures)),
    "budgets": Kind(use="`budget:` of a study", rows=lambda: _files("budgets", _budget_figures)),
    "spaces": Kind(use="`space:` of a study", rows=lambda: _files("spaces", _space_figures)),
    "templates": Kind(
        use="`template:` of a space",
        rows=lambda: _registry("codesign.space.templates", "TEMPLATES"),
    ),
    "layers": Kind(
        use="`domains.activation` of a space, and templates",
        rows=lambda: _registry("codesign.layers", "LAYERS"),
    ),
    "tasks": Kind(
        use="`task.source` of a study; `codesign data show`",
        rows=lambda: _registry("codesign.tasks.base", "TASKS"),
    ),
    "metrics": Kind(
        use="the heads of a task's target",
        rows=lambda: _registry("codesign.metrics", "METRICS"),
    ),
    "strategies": Kind(
        use="`search.strategy` of a study",
        rows=lambda: _registry("codesign.search.strategies.base", "STRATEGIES"),
    ),
    "weight_sharing": Kind(
        use="`search.weight_sharing.methods` of a study", rows=_words(WEIGHT_SHARING)
    ),
    "rewards": Kind(use="`search.reward.kind` of a study", rows=_words(REWARDS)),
    "proxies": Kind(use="`labels.proxy` of a study", rows=_words(PROXIES)),
    "profilers": Kind(use="`search.filter.at_most` of a study", rows=_figures),
    "methods": Kind(
        use="`labels.predictor` of a study; `codesign predictor train --method`",
        rows=lambda: _registry("codesign.predictor.base", "METHODS"),
    ),
    "backends": Kind(
        use="`export.backends` of a study; `codesign export --backend`",
        rows=lambda: _registry("codesign.export.backends", "BACKENDS"),
    ),
    "loop": Kind(
        use="`codesign validate --device URL`: devices in the loop and their transports",
        rows=lambda: _registry("codesign.validate.url", "DEVICES"),
    ),
}


def list_choices(kind: str) -> list[Row]:
    """Return everything of a kind.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in KINDS:
        raise ConfigError(unknown_name("kind", kind, KINDS))
    return KINDS[kind].rows()
