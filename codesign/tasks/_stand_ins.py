"""What stands in for anomalies where no signal is known: two background events in one crossing.

Designs and teachers of anomaly scores are chosen by how well they tell such crossings from single
background events.  No signal is asked, and nothing is trained on them.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError
from codesign.tasks.base import Check

#: What the classes of an anomaly head are called.
CLASSES = ("background", "stand-in")
_FIELD = re.compile(r"^([a-z_]+?)(\d*)_(pt|eta|phi)$")


def merged_crossings(
    x: NDArray[np.float32],
    feature_names: Sequence[str],
    *,
    turn: float,
    pt_max: float = np.inf,
    is_integer: bool = False,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return one crossing with the objects of two events for every event, float32[n, n_features].

    Of each kind the leading objects are kept; those that come once (missing energy) add as vectors.

    Args:
        x: float32[n, n_features], events; missing objects are zeros.
        feature_names: <kind><number>_pt, _eta and _phi of every object, the leading ones first.
        turn: a full turn in units of phi.
        pt_max: where pT saturates.
        is_integer: round results down to whole numbers.
        seed: of who meets whom.

    Raises:
        ConfigError: features that are no such objects.
    """
    kinds: dict[str, dict[str, list[int]]] = {}
    for column, name in enumerate(feature_names):
        found = _FIELD.match(name)
        if found is None:
            raise ConfigError(
                f"feature {name!r} is no pt, eta or phi of an object; anomaly heads need whole objects; choose another"
                " head"
            )
        fields = kinds.setdefault(found[1], {"pt": [], "eta": [], "phi": []})
        fields[found[3]].append(column)
    for kind, fields in kinds.items():
        if len({len(columns) for columns in fields.values()}) != 1:
            raise ConfigError(
                f"objects {kind!r} lack some of pt, eta and phi; anomaly heads need whole objects; choose another head"
            )
    other = x[np.random.default_rng([seed, 5]).permutation(len(x))]
    result = np.zeros_like(x)
    for fields in kinds.values():
        places = np.array([fields[name] for name in ("pt", "eta", "phi")])
        objects = np.concatenate([x[:, places], other[:, places]], axis=2)  # [n, 3, 2 * objects]
        if places.shape[1] == 1:
            angle = objects[:, 2] * (2 * np.pi / turn)
            vectors = [(objects[:, 0] * f(angle)).sum(axis=1) for f in (np.cos, np.sin)]
            kept = np.zeros((len(x), 3, 1))
            kept[:, 0, 0] = np.hypot(*vectors)
            kept[:, 2, 0] = np.arctan2(vectors[1], vectors[0]) % (2 * np.pi) * (turn / (2 * np.pi))
        else:
            order = np.argsort(-objects[:, 0], axis=1, kind="stable")[:, : places.shape[1]]
            kept = np.take_along_axis(objects, order[:, None], axis=2)
        result[:, places] = kept
    is_pt = [column for fields in kinds.values() for column in fields["pt"]]
    result[:, is_pt] = np.minimum(result[:, is_pt], pt_max)
    return np.floor(result) if is_integer else result


def with_stand_ins(
    x: NDArray[np.float32], merged: NDArray[np.float32], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64] | None, Check]:
    """Return background and stand-ins in a random order, their classes [n, 1], weights, and what to say of it."""
    order = np.random.default_rng(11).permutation(2 * len(x))
    labels = np.repeat([0, 1], len(x))[order][:, None]
    said = Check(
        name="score_without_labels",
        outcome="noted",
        detail=f"designs are judged by telling {len(x)} background events from as many crossings with two of them;"
        " no signal is asked, and nothing is trained on those",
    )
    both = None if weights is None else np.concatenate([weights, weights])[order]
    return np.concatenate([x, merged])[order], labels, both, said


def wants_stand_ins(heads: Sequence[object] | None) -> bool:
    """Whether a study's heads ask for an anomaly score."""
    return any(
        getattr(head, "name", "") == "anomaly" or getattr(head, "kind", None) == "anomaly"
        for head in heads or ()
    )
