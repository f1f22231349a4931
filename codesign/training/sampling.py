"""Which candidates to label: a spread over a space, denser where good designs lie."""

from __future__ import annotations

import re

import numpy as np

from codesign.ir import Candidate
from codesign.space import SearchSpace, candidates_from_population
from codesign.training.options import label_key

#: Share of candidates whose blocks are alike; the others draw every gene on its own.
HOMOGENEOUS_SHARE = 0.4
_NUMBERED = re.compile(r"^(.*)_(\d+)$")


def sample_candidates(space: SearchSpace, n: int, *, seed: int, part: str) -> list[Candidate]:
    """Draw n candidates with distinct architecture and precision.

    Independent genes nearly never give a network with one activation and one precision throughout,
    which is what good designs look like; so `HOMOGENEOUS_SHARE` of the draws copy the genes of the
    first block (but its width) to all others.

    Args:
        space: where to draw.
        n: how many.
        seed: of the draw.
        part: device part number, for the candidates' hardware configuration.
    """
    generator = np.random.default_rng(seed)
    index = {gene.name: i for i, gene in enumerate(space.genes)}
    found: dict[str, Candidate] = {}
    for _ in range(100):
        genomes = generator.integers(0, space.upper + 1, size=(n, space.upper.size))
        alike = np.flatnonzero(generator.random(n) < HOMOGENEOUS_SHARE)
        for name, column in index.items():
            match = _NUMBERED.match(name)
            first = f"{match[1]}_1" if match else name.removesuffix("_head") + "_1"
            if first in index and not name.startswith("width"):
                genomes[alike, column] = genomes[alike, index[first]]
        population = space.decode(space.canonicalize(genomes))
        for candidate in candidates_from_population(population, part=part):
            found.setdefault(label_key(candidate), candidate)
        if len(found) >= n:
            break
    return list(found.values())[:n]
