"""Stage "share": designs that weight sharing proposes for the first generation of the first search."""

from __future__ import annotations

import time

from codesign.results import Proposal, Results, Sharing
from codesign.search.weight_sharing import SharedSpace, propose, share
from codesign.stages.setting import Setting

KEYS = ("search.weight_sharing",)


def open_sharing(setting: Setting) -> SharedSpace:
    """Set up weight sharing for a study.

    Raises:
        DesignError: its space has no plain chains of layers.
    """
    return share(setting.space, setting.scorer, setting.budget, setting.arrays())


def run(setting: Setting, earlier: Results) -> Sharing:
    """Let every method asked for propose its designs."""
    section = setting.study.config.search.weight_sharing
    assert section is not None, "the pipeline holds this stage only where it is asked for"
    shared = open_sharing(setting)
    found: dict[str, Proposal] = {}
    for method in section.methods:
        started_s = time.monotonic()
        with setting.reporter.stage(f"weight sharing: {method}", 1.0) as stage:
            genomes = propose(
                shared,
                method,
                epochs=section.epochs,
                prices=section.prices,
                n_designs=section.n_designs,
                seed=setting.study.config.seed,
                progress=stage.update,
            )
        found[method] = Proposal(seconds=time.monotonic() - started_s, genomes=genomes.tolist())
        setting.reporter.message(
            f"weight sharing: {method} proposes {len(genomes)} pairs in {found[method].seconds:.0f} s"
        )
    return Sharing(proposals=found)
