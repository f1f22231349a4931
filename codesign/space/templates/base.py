"""What a space template is: named genes over finite domains, decoded for whole populations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Population

Value = int | float | str


@dataclass(frozen=True, kw_only=True)
class Gene:
    """One variable of a genome: an index into a finite domain.

    Attributes:
        name: unique, e.g. "width_2".
        domain: values, in order.
        is_ordered: whether neighbours in the domain are similar.
    """

    name: str
    domain: tuple[Value, ...]
    is_ordered: bool


class Template(ABC):
    """Interface of a family of architectures.

    Attributes:
        name: registered name.
        domain_names: keys that the space's YAML must give, each a list of values.
        optional_domain_names: keys that it may give.
    """

    name: ClassVar[str]
    domain_names: ClassVar[tuple[str, ...]]
    optional_domain_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __init__(
        self,
        domains: Mapping[str, Sequence[Value]],
        *,
        input_shape: tuple[int, ...],
        n_outputs: int,
    ) -> None:
        """Check the domains, each under its own name or that of one gene.

        Raises:
            ConfigError: a domain is missing, unknown, empty or holds an illegal value, or the template
                has no networks for inputs of that shape.
        """

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The variables, in genome order."""

    @abstractmethod
    def canonicalize(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Set every gene that has no effect to 0, so that equal designs have equal genomes."""

    @abstractmethod
    def decode(self, genomes: NDArray[np.int64]) -> Population:
        """Decode int64[n, n_genes] into a population, without a loop over candidates."""
