"""Search spaces: YAML -> variables; genomes <-> populations <-> candidates."""

from codesign.space.assemble import candidates_from_population, population_from_candidates
from codesign.space.space import SearchSpace, SpaceConfig, load_space, read_space

__all__ = [
    "SearchSpace",
    "SpaceConfig",
    "candidates_from_population",
    "load_space",
    "population_from_candidates",
    "read_space",
]
