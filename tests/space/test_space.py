"""Genomes decode to legal, canonical candidates."""

import numpy as np
import pytest
import yaml

from codesign.errors import ConfigError, DesignError
from codesign.layers import LAYERS
from codesign.resources import data_root
from codesign.space import candidates_from_population, load_space, population_from_candidates
from codesign.space.reuse import is_legal_reuse_factor


def shape_for(template):
    """A task that a template has networks for."""
    if template == "conv":
        return (6, 5, 2)
    return (64, 16) if template in ("deepsets", "interaction", "mixer", "attention") else (16,)


@pytest.fixture(
    scope="module",
    params=[
        "mlp_l1",
        "cell_l1",
        "deepsets_l1",
        "autoencoder_l1",
        "interaction_l1",
        "mixer_l1",
        "attention_l1",
        "tables_l1",
        "conv_l1",
        "conv_l1 on particles",
        "mlp_l1 on particles",
    ],
)
def space(request):
    name, _, particles = request.param.partition(" on ")
    template = name.removesuffix("_l1")
    shape = (8, 3) if particles else shape_for(template)
    return load_space(name, n_inputs=shape, n_outputs=outputs_of(template))


def outputs_of(template):
    """Templates of scores have one output; others any number."""
    return 1 if template == "autoencoder" else 5


def test_every_shipped_space_loads():
    for path in (data_root("constraints") / "spaces").glob("*.yaml"):
        template = yaml.safe_load(path.read_text())["template"]
        of = load_space(path.stem, n_inputs=shape_for(template), n_outputs=outputs_of(template))
        assert of.log10_size > 2


def test_candidates_and_genomes_give_the_same_population(space):
    genomes = space.sample(200, np.random.default_rng(0))
    population = space.decode(genomes)
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    again = population_from_candidates(candidates)

    assert np.array_equal(population.layer, again.layer)
    assert np.array_equal(population.stage, again.stage)
    for name in population.columns:
        assert np.array_equal(population.columns[name], again.columns[name]), name
    for name in ("clock_period_ns", "flow", "io_type"):
        assert np.array_equal(getattr(population, name), getattr(again, name)), name


def small(genes, genomes):
    """Move every gene to values on which few others depend, so that designs coincide often."""
    names = [gene.name for gene in genes]
    for i, name in enumerate(names):
        if not name.startswith(("flow", "strategy", "reuse", "depth", "n_cells", "particle_depth")):
            genomes[:, i] %= 2
    return genomes


def test_one_candidate_is_one_canonical_genome(space):
    """Genomes are canonical apart exactly where their candidates are."""
    generator = np.random.default_rng(4)
    first = small(space.genes, generator.integers(0, space.upper + 1, (150, space.upper.size)))
    parts = [first]
    for _ in range(6):  # neighbours: one gene anew
        other = first.copy()
        gene = generator.integers(0, space.upper.size, len(first))
        other[np.arange(len(first)), gene] = generator.integers(0, space.upper[gene] + 1)
        parts.append(other)
    canonical = space.canonicalize(np.concatenate(parts))
    candidates = candidates_from_population(space.decode(canonical), part="xcvu13p-flga2577-2-e")
    n_genomes = len(np.unique(canonical, axis=0))
    pairs = {(tuple(g), c.digest) for g, c in zip(canonical.tolist(), candidates, strict=True)}
    assert len({digest for _, digest in pairs}) == len(pairs) == n_genomes < len(canonical)


def test_a_flow_is_not_guessed_from_strategies(space):
    """Plain RTL and an hls4ml project of distributed arithmetic only are two designs."""
    names = [gene.name for gene in space.genes]
    genomes = space.sample(20, np.random.default_rng(5))
    for i, gene in enumerate(space.genes):
        if gene.name.startswith("strategy"):
            genomes[:, i] = gene.domain.index("distributed_arithmetic")
    rtl, hls = genomes.copy(), genomes.copy()
    flows = space.genes[names.index("flow")].domain
    if "hls" not in flows:
        pytest.skip("plain RTL only")
    rtl[:, names.index("flow")] = flows.index("rtl")
    hls[:, names.index("flow")] = flows.index("hls")
    populations = [space.decode(space.canonicalize(g)) for g in (rtl, hls)]
    for name in populations[0].columns:
        assert np.array_equal(*(p.columns[name] for p in populations)), name
    digests = [
        {c.digest for c in candidates_from_population(p, part="xcvu13p-flga2577-2-e")}
        for p in populations
    ]
    assert not digests[0] & digests[1]


def test_an_io_type_is_a_gene_where_a_space_says_so(tmp_path):
    value = yaml.safe_load((data_root("constraints") / "spaces" / "mlp_tiny.yaml").read_text())
    value["domains"]["io_type"] = ["io_stream", "io_parallel"]
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    space = load_space(str(path), n_inputs=16, n_outputs=5)
    plain = load_space("mlp_tiny", n_inputs=16, n_outputs=5)
    assert [g.name for g in space.genes] == [*(g.name for g in plain.genes), "io_type"]
    genomes = space.sample(200, np.random.default_rng(6))
    candidates = candidates_from_population(space.decode(genomes), part="xcvu13p-flga2577-2-e")
    found = {(c.hardware.flow, c.hardware.io_type) for c in candidates}
    # plain RTL takes all inputs at once
    assert found == {("rtl", "io_parallel"), ("hls", "io_parallel"), ("hls", "io_stream")}
    is_rtl = np.array([c.hardware.flow == "rtl" for c in candidates])
    assert (genomes[is_rtl, -1] == 0).all() and (genomes[~is_rtl, -1] == 1).any()


def test_reuse_factors_are_legal_by_construction(space):
    generator = np.random.default_rng(1)
    population = space.decode(generator.integers(0, space.upper + 1, (2000, space.upper.size)))
    has_multipliers = np.array([LAYERS.get(n).has_multipliers for n in population.layer_names])
    rows = has_multipliers[population.layer]
    shape = [
        population.columns[k][rows].astype(int)
        for k in ("n_in", "n_out", "strategy", "reuse_factor")
    ]
    assert is_legal_reuse_factor(*shape).all()
    wishes = {v for g in space.genes if g.name.startswith("reuse_factor") for v in g.domain}
    assert (shape[3] > 1).any() == (max(wishes) > 1)


def test_canonical_form_changes_no_design_and_is_idempotent(space):
    generator = np.random.default_rng(2)
    genomes = generator.integers(0, space.upper + 1, (300, space.upper.size))
    canonical = space.canonicalize(genomes)
    assert np.array_equal(space.canonicalize(canonical), canonical)
    before, after = space.decode(genomes), space.decode(canonical)
    assert np.array_equal(before.layer, after.layer)
    for name in before.columns:
        assert np.array_equal(before.columns[name], after.columns[name]), name


def test_a_population_decodes_as_its_members_do(space):
    genomes = space.sample(40, np.random.default_rng(3))
    together = space.decode(genomes)
    for i in (0, 7, 39):
        alone = space.decode(genomes[i : i + 1])
        rows = together.candidate == i
        for name in alone.columns:
            assert np.array_equal(alone.columns[name], together.columns[name][rows]), name


def test_a_layer_may_have_a_domain_of_its_own(tmp_path):
    """64-32-32 as a fixed part of a space: a domain named as a gene is that gene's own."""
    value = yaml.safe_load((data_root("constraints") / "spaces" / "mlp_l1.yaml").read_text())
    value["domains"] |= {"depth": [3], "width_1": [64], "width_2": [32], "width_3": [32, 16]}
    value["domains"] |= {"strategy_2": ["resource"], "reuse_factor_2": [4, 8], "skip": ["none"]}
    del value["domains"]["width"]
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    space = load_space(path, n_inputs=16, n_outputs=5)
    population = space.decode(space.sample(200, np.random.default_rng(0)))
    dense = population.columns["weight_bits"] > 0
    widths = population.columns["n_out"][dense].reshape(200, 4)
    assert (widths[:, :2] == (64, 32)).all() and set(widths[:, 2]) == {32, 16}
    second = np.flatnonzero(dense).reshape(200, 4)[~population.is_rtl, 1]
    assert set(population.columns["reuse_factor"][second]) == {4, 8}
    del value["domains"]["width_2"]
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=r"domains\.width is missing, and width_2 has no domain"):
        load_space(path, n_inputs=16, n_outputs=5)


def test_deep_sets_read_what_a_task_of_particles_has():
    for shape, message in (
        ((16,), "reads .particles, features."),
        ((4, 3), r"domains\.particles holds \d+, the task has 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_space("deepsets_l1", n_inputs=shape, n_outputs=5)


def test_wrong_genomes_are_refused(space):
    with pytest.raises(DesignError, match="shape"):
        space.decode(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(DesignError, match="outside its domain"):
        space.decode(np.full((1, space.upper.size), 99))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "mlpp"}, "did you mean 'mlp'"),
        ({"colour": 1}, "colour"),
        ({"domains.activation": ["relu6"]}, "relu"),
        ({"domains.width": []}, "empty"),
        ({"domains.width": [8, 8]}, "repeats"),
        ({"domains.pruned_fraction": [1.5]}, "pruned_fraction"),
        ({"domains.widht": [8]}, "did you mean 'width'"),
        ({"domains.width_3": [8]}, "did you mean 'width_2'"),
        ({"domains.width_2": ["x"]}, "domains.width_2: expected numbers"),
        ({"domains.skip_1": ["ad"]}, "domains.skip_1: .*did you mean 'add'"),
    ],
)
def test_bad_spaces_are_refused_by_name(tmp_path, change, message):
    value = yaml.safe_load((data_root("constraints") / "spaces" / "mlp_tiny.yaml").read_text())
    for key, new in change.items():
        target = value
        *parents, last = key.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = new
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=message):
        load_space(str(path), n_inputs=16, n_outputs=5)
