"""A search space: a template with its domains, seen by the search as integer vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from codesign.config import Strict, load
from codesign.errors import ConfigError, DesignError, unknown_name
from codesign.ir import Population
from codesign.space.templates import TEMPLATES
from codesign.space.templates.base import Gene, Template


class SpaceConfig(Strict):
    """The YAML of a space.

    Attributes:
        template: registered family of architectures.
        precision: "uniform": widths are genes; "learned": training finds a width per weight, lane and feature, to
            the budget of gene `lut_budget`, and domains of widths, pruning and norms fall away (docs/precision.md).
        domains: per domain of the template, the values to search; a gene (`width_2`) named as a domain
            has these values of its own.
        source: where the choice comes from.
    """

    schema_: Literal[1] = Field(alias="schema")
    name: str
    template: str
    source: str = Field(min_length=5)
    precision: Literal["uniform", "learned"] = "uniform"
    domains: dict[str, list[int | float | str]]

    @model_validator(mode="after")
    def _has_budgets(self) -> SpaceConfig:
        if (self.precision == "learned") != ("lut_budget" in self.domains):
            raise ValueError(
                "precision: learned and domains.lut_budget go together; give both, e.g. lut_budget: [500, 1000, 2000], or"
                " neither"
            )
        if self.precision == "learned" and "hls" in self.domains.get("flow", ()):
            raise ValueError(
                "precision: learned is priced in LUTs of plain RTL; set domains.flow to [rtl], or precision to uniform"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Finite space of (architecture, hardware configuration) pairs.

    Attributes:
        name: of the YAML.
        template: decodes genomes.
        input_shape, n_outputs: of the task.
    """

    name: str
    template: Template
    input_shape: tuple[int, ...]
    n_outputs: int

    @property
    def n_inputs(self) -> int:
        """Values of one event."""
        return math.prod(self.input_shape)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The variables, in genome order."""
        return self.template.genes

    @property
    def upper(self) -> NDArray[np.int64]:
        """int64[n_genes], greatest index of each gene (least is 0)."""
        return np.array([len(g.domain) - 1 for g in self.genes], dtype=np.int64)

    @property
    def learns_widths(self) -> bool:
        """Whether widths are found by training, to a budget that is a gene."""
        return any(gene.name == "lut_budget" for gene in self.genes)

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of the number of genomes."""
        return float(np.log10([len(g.domain) for g in self.genes]).sum())

    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw n canonical genomes, each gene uniform."""
        return self.canonicalize(generator.integers(0, self.upper + 1, size=(n, self.upper.size)))

    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Set every gene that has no effect to 0."""
        return self.template.canonicalize(genomes)

    def decode(self, genomes: NDArray[np.int64]) -> Population:
        """Decode int64[n, n_genes].

        Raises:
            DesignError: wrong shape, or an index outside its domain.
        """
        genomes = np.asarray(genomes, dtype=np.int64)
        if genomes.ndim != 2 or genomes.shape[1] != self.upper.size:
            raise DesignError(
                f"genomes have shape {genomes.shape}; expected (n, {self.upper.size})"
            )
        if (genomes < 0).any() or (genomes > self.upper).any():
            raise DesignError("a gene lies outside its domain; indices run from 0 to `upper`")
        return self.template.decode(genomes)


def read_space(reference: str | Path) -> tuple[SpaceConfig, Path]:
    """Read the file of a space by name or path; return it and where it stands.

    Raises:
        ConfigError: no such file, an unknown key or template.
    """
    config, path = load(SpaceConfig, reference, kind="spaces")
    if config.template not in TEMPLATES:
        raise ConfigError(
            f"{path.name}: {unknown_name('template', config.template, TEMPLATES.names())}"
        )
    return config, path


def load_space(
    reference: str | Path, *, n_inputs: int | Sequence[int], n_outputs: int
) -> SearchSpace:
    """Read a space by name or path, for a task.

    Args:
        reference: name or path.
        n_inputs: features of the task, or the shape of its inputs: (particles, features), (rows,
            columns, channels).
        n_outputs: of the task.

    Raises:
        ConfigError: an unknown template, a missing or unknown domain, an illegal value, or inputs of
            a shape that the template has no networks for.
    """
    config, path = read_space(reference)
    shape = (n_inputs,) if isinstance(n_inputs, int) else tuple(n_inputs)
    try:
        built = TEMPLATES.get(config.template)(
            config.domains, input_shape=shape, n_outputs=n_outputs
        )
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return SearchSpace(name=config.name, template=built, input_shape=shape, n_outputs=n_outputs)
