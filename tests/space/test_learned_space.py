"""Spaces of learned widths: a budget instead of genes of widths, in genomes, digests, labels and features."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from codesign.encoding.population import BUDGET_NAMES, encode_population
from codesign.errors import ConfigError
from codesign.ir import Candidate
from codesign.resources import data_root
from codesign.space import candidates_from_population, load_space, population_from_candidates
from codesign.space.templates._shared import UNSEARCHED
from codesign.training.options import architecture_digest, label_key

PART = "xcvu13p-flga2577-2-e"
SHIPPED = data_root("constraints") / "spaces" / "mlp_learned.yaml"


@pytest.fixture(scope="module")
def space():
    return load_space("mlp_learned", n_inputs=16, n_outputs=5)


def test_the_budget_is_a_gene_and_widths_are_none(space):
    names = [gene.name for gene in space.genes]
    assert space.learns_widths and "lut_budget" in names
    assert not [n for n in names if n.startswith(tuple(UNSEARCHED))]
    genomes = space.sample(200, np.random.default_rng(0))
    budgets = np.array(dict((g.name, g.domain) for g in space.genes)["lut_budget"])
    decoded = space.decode(genomes)
    assert np.array_equal(decoded.lut_budget, budgets[genomes[:, names.index("lut_budget")]])
    assert np.array_equal(decoded.take(np.arange(200) % 2 == 0).lut_budget, decoded.lut_budget[::2])


def test_candidates_keep_their_budget_in_every_form(space):
    decoded = space.decode(space.sample(40, np.random.default_rng(1)))
    candidates = candidates_from_population(decoded, part=PART)
    assert [c.lut_budget for c in candidates] == decoded.lut_budget.tolist()
    assert population_from_candidates(candidates).lut_budget.tolist() == decoded.lut_budget.tolist()
    for candidate in candidates:
        assert Candidate.from_json(candidate.to_json()) == candidate
        other = replace(candidate, lut_budget=candidate.lut_budget + 1)
        plain = replace(candidate, lut_budget=None)
        assert len({c.digest for c in (candidate, other, plain)}) == 3
        assert len({label_key(c) for c in (candidate, other, plain)}) == 3
        assert label_key(plain) == architecture_digest(candidate.network)


def test_predictors_see_the_budget_and_nothing_new_where_there_is_none(space):
    decoded = space.decode(space.sample(50, np.random.default_rng(2)))
    batch = encode_population(decoded)
    assert batch.extra_names[-2:] == BUDGET_NAMES
    np.testing.assert_allclose(batch.extras[:, -2], np.log2(1 + decoded.lut_budget), rtol=1e-6)
    uniform = load_space("mlp_l1", n_inputs=16, n_outputs=5)
    plain = encode_population(uniform.decode(uniform.sample(5, np.random.default_rng(0))))
    assert not set(BUDGET_NAMES) & set(plain.extra_names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "uniform"}, "go together; give both"),
        ({"domains": {"lut_budget": None}}, "go together; give both"),
        ({"domains": {"weight_bits": [4]}}, "domains.weight_bits has no effect where widths are"),
        ({"domains": {"result_bits_1": [4]}}, "domains.result_bits_1 has no effect"),
        ({"domains": {"flow": ["rtl", "hls"]}}, r"set domains.flow to \[rtl\]"),
        ({"domains": {"lut_budget": [0]}}, "expected positive numbers"),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_name(change, message, tmp_path):
    value = yaml.safe_load(SHIPPED.read_text())
    for name, domain in change.pop("domains", {}).items():
        value["domains"] |= {name: domain}
        if domain is None:
            del value["domains"][name]
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(value | change))
    with pytest.raises(ConfigError, match=message):
        load_space(path, n_inputs=16, n_outputs=5)


@pytest.mark.parametrize("template", ["cell", "deepsets", "autoencoder"])
def test_every_template_can_learn_its_widths(template, tmp_path):
    shipped = data_root("constraints") / "spaces" / f"{template}_l1.yaml"
    value = yaml.safe_load(shipped.read_text())
    value["domains"] = {k: v for k, v in value["domains"].items() if k not in UNSEARCHED}
    value["domains"] |= {"lut_budget": [500, 1000], "flow": ["rtl"]}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(value | {"precision": "learned"}))
    shape, n_outputs = ((16, 3), 5) if template == "deepsets" else ((16,), 5)
    n_outputs = 1 if template == "autoencoder" else n_outputs
    space = load_space(path, n_inputs=shape, n_outputs=n_outputs)
    genomes = space.sample(30, np.random.default_rng(0))
    assert np.array_equal(space.canonicalize(genomes), genomes)
    population = space.decode(genomes)
    candidates = candidates_from_population(population, part=PART)
    again = population_from_candidates(candidates)
    for name, values in population.columns.items():
        np.testing.assert_array_equal(again.columns[name], values, err_msg=name)
