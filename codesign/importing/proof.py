"""An imported network against its own framework: the same inputs, output by output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.importing.reader import Imported

Floats = NDArray[np.float64]
#: Inputs given to the framework at a time.
_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How outputs of two implementations differ, on vectors of one kind.

    Attributes:
        vectors, outputs: how many were compared.
        differing: outputs half a last bit apart or more.
        largest: greatest difference.
        largest_steps: the same in last bits of our outputs.
    """

    vectors: int
    outputs: int
    differing: int
    largest: float
    largest_steps: float


def drawn_inputs(imported: Imported, *, n: int, seed: int) -> dict[str, Floats]:
    """Draw inputs of the original, float64[n, *shape] by kind; all of them are words of our input.

    Returns:
        "random": uniform words; "normal": as data scaled to unit spread would be; "corners": zero, the
        extremes, and each input alone at either of them (for up to 256 inputs).
    """
    known, generator = imported.network.input_type, np.random.default_rng(seed)
    real = known.values_from_words(known.max_words)
    spread = np.minimum(1.0, np.maximum(real, known.covering.lsb) / 2.0)
    normal = generator.normal(size=(n, *known.shape)) * spread
    low, high = known.min_words.ravel(), known.max_words.ravel()
    corners = [np.zeros_like(low), low, high, np.where(np.arange(low.size) % 2, low, high)]
    for i in range(min(low.size, 256)):
        for extreme in (low, high):
            alone = np.zeros_like(low)
            alone[i] = extreme[i]
            corners.append(alone)
    words = {
        "random": known.draw(generator, n).reshape(n, -1),
        "normal": known.words_from_values(normal).reshape(n, -1),
        "corners": np.array(corners),
    }
    return {kind: imported.inputs_of_words(w) for kind, w in words.items()}


def compare(imported: Imported, inputs: Floats) -> tuple[Difference, Floats]:
    """Run both on the same inputs.

    Args:
        imported: the network.
        inputs: float[n, *shape], of the original; rounded to float32, which frameworks compute in.

    Returns:
        How they differ, and what the original answers, float64[n, n_outputs].

    Raises:
        DesignError: the shapes do not fit, or the framework fails.
    """
    values = np.asarray(inputs, dtype=np.float32).astype(np.float64)
    if values.shape[1:] != imported.shape:
        raise DesignError(
            f"inputs have shape {values.shape}; the network takes (n, {', '.join(map(str, imported.shape))})"
        )
    theirs = np.concatenate(
        [imported.reference(values[i : i + _BATCH]) for i in range(0, len(values), _BATCH)]
    )
    return compare_answers(imported, values, theirs, of=imported.framework), theirs


def compare_answers(imported: Imported, values: Floats, theirs: Floats, *, of: str) -> Difference:
    """Compare with answers that are known.

    Args:
        imported: the network.
        values: float64[n, *shape], inputs of the original.
        theirs: float64[n, n_outputs], what it answers.
        of: who answered, for the message.

    Raises:
        DesignError: the shapes do not fit.
    """
    ours = np.concatenate(
        [
            imported.outputs(imported.words_of_inputs(values[i : i + _BATCH]))
            for i in range(0, len(values), _BATCH)
        ]
    )
    if theirs.shape != ours.shape:
        raise DesignError(
            f"{of} gives outputs {theirs.shape}, the network read {ours.shape}; give one row per input"
        )
    apart = np.abs(theirs - ours)
    steps = apart / imported.output_steps
    return Difference(
        vectors=len(values),
        outputs=apart.size,
        differing=int((steps >= 0.5).sum()),
        largest=float(apart.max(initial=0.0)),
        largest_steps=float(steps.max(initial=0.0)),
    )
