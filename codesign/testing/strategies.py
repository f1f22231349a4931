"""What every search strategy promises: ask and tell, one seed one archive, resume by replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codesign.errors import DesignError
from codesign.search.archive import archive_of
from codesign.search.loop import run_search
from codesign.search.problem import Evaluation, Genomes, check_genomes
from codesign.search.rewards import LexicographicContract
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import StrategySettings, make_strategy
from codesign.testing.synthetic import SyntheticProblem, enumerate_space

PROBLEM = SyntheticProblem(lut_limit=1500.0, latency_limit_ns=28.0)

#: Designs of `PROBLEM` to begin with.
INITIAL = np.array([[1, 2, 1, 0, 3, 2, 1, 2, 2, 1], [0, 1, 2, 0, 3, 2, 1, 0, 0, 0]], dtype=np.int64)


class _Holes(SyntheticProblem):
    """Half of the infeasible designs have no figures at all."""

    def evaluate(self, genomes: Genomes) -> Evaluation:
        plain = super().evaluate(genomes)
        broken = ~plain.is_feasible & (genomes[:, 1] % 2 == 0)
        return Evaluation(
            objectives=np.where(broken[:, None], np.nan, plain.objectives),
            violations=np.where(broken[:, None], np.inf, plain.violations),
        )


class StrategyContract:
    """Tests of one registered strategy; the fixture `name` says which.

    Attributes:
        budget: evaluations of a search; fewer for strategies whose every proposal is dear.
        small_settings: settings for a space of some hundred designs.
        finishes: whether it searches a small space to the end in reasonable time.
        follows_order: asks for everything in one fixed order, whatever it is given to begin with.
    """

    budget = 300
    small_settings: StrategySettings | None = None
    finishes = True
    follows_order = False

    def test_asks_for_canonical_genomes_in_bounds_and_none_twice(self, name: str) -> None:
        agent = make_strategy(name, PROBLEM, seed=3)
        asked = []
        for _ in range(6):
            asked.append(agent.ask())
            agent.tell(asked[-1], PROBLEM.evaluate(asked[-1]))
        genomes = check_genomes(PROBLEM, np.concatenate(asked))
        assert np.array_equal(PROBLEM.canonicalize(genomes), genomes)
        assert len(np.unique(genomes, axis=0)) == len(genomes)

    def test_same_seed_same_archive_and_no_infeasible_point_in_it(self, name: str) -> None:
        first, again = (
            run_search(PROBLEM, name, n_evaluations=self.budget, seed=5) for _ in range(2)
        )
        assert np.array_equal(first.genomes, again.genomes)
        assert first.n_evaluations == self.budget
        assert first.evaluation.is_feasible.all()
        fresh = PROBLEM.evaluate(first.genomes)
        assert np.array_equal(fresh.objectives, first.objectives)
        assert fresh.is_feasible.all()

    def test_resumed_from_any_prefix_ends_in_the_same_archive(
        self, name: str, tmp_path: Path
    ) -> None:
        whole = run_search(PROBLEM, name, n_evaluations=self.budget, seed=11)
        with EvaluationStore(tmp_path / "study.db") as store:
            # cut inside a batch, twice
            for n in (self.budget // 3 + 7, self.budget // 2 + 1, self.budget):
                resumed = run_search(PROBLEM, name, n_evaluations=n, seed=11, store=store)
        assert np.array_equal(whole.genomes, resumed.genomes)
        assert np.array_equal(whole.objectives, resumed.objectives)
        assert np.array_equal(whole.found_at, resumed.found_at)

    def test_a_small_space_is_searched_to_the_end(self, name: str) -> None:
        import pytest

        if not self.finishes:
            pytest.skip(f"{name} takes minutes for a whole space; the other contracts cover it")
        problem = SyntheticProblem(n_layers=1, n_widths=3, n_bits=2, n_reuse=2, lut_limit=900.0)
        genomes = enumerate_space(problem.upper)
        truth = archive_of(problem, genomes, problem.evaluate(genomes))
        found = run_search(
            problem, name, n_evaluations=len(genomes), seed=2, settings=self.small_settings
        )
        assert found.n_evaluations <= len(genomes)
        # a strategy may give up on the last few genomes, not on the front
        assert len(found) >= 0.95 * len(truth)

    def test_infeasible_everywhere_gives_an_empty_archive(self, name: str) -> None:
        archive = run_search(SyntheticProblem(lut_limit=1e-3), name, n_evaluations=80, seed=1)
        assert len(archive) == 0
        assert archive.n_feasible == 0

    def test_objectives_of_infeasible_genomes_may_be_missing(self, name: str) -> None:
        budget = min(self.budget, 200)
        archive = run_search(_Holes(lut_limit=1500.0), name, n_evaluations=budget, seed=1)
        assert np.isfinite(archive.objectives).all()

    def test_given_genomes_are_asked_for_first(self, name: str) -> None:
        import pytest

        if self.follows_order:
            pytest.skip(f"{name} asks for everything, in one fixed order")
        agent = make_strategy(name, PROBLEM, seed=0, settings=StrategySettings(initial=INITIAL))
        first = {tuple(row) for row in agent.ask().tolist()}
        assert {tuple(row) for row in INITIAL.tolist()} <= first

    def test_a_reward_is_maximised_or_refused(self, name: str) -> None:
        import pytest

        problem = SyntheticProblem()
        contract = LexicographicContract(
            error="error", limits=(("latency_ns", 20.0), ("lut", 1000.0))
        )
        settings = StrategySettings(reward=contract)
        try:
            make_strategy(name, problem, seed=0, settings=settings)
        except DesignError as error:
            assert "takes no reward" in str(error)
            return
        archive = run_search(
            problem, name, n_evaluations=2 * self.budget, seed=0, settings=settings
        )
        everything = problem.evaluate(enumerate_space(problem.upper))
        values = contract(everything, problem.objective_names)[everything.is_feasible]
        best = contract(archive.evaluation, problem.objective_names).max()
        assert best == pytest.approx(values.max()) or (values > best).mean() < 0.005
