"""Stage "choose": the winner among the trained designs."""

from __future__ import annotations

from codesign.results import Choice, Results, Training
from codesign.stages.choosing import choose_winner
from codesign.stages.setting import Setting

KEYS = ("train.score_tolerance",)


def run(setting: Setting, earlier: Results) -> Choice:
    """Choose the winner.

    Raises:
        CodesignError: no design fits the budget once its weights are known.
    """
    winner, reason = choose_winner(
        earlier.require(Training).designs, setting.study.config.train.score_tolerance
    )
    setting.reporter.message(reason)
    return Choice(winner=winner.digest, reason=reason)
