"""Once-for-All: one weight-sharing supernet with elastic depth, width, operator and precision.

The largest network is trained first; then, by progressive shrinking, ever smaller sub-networks are
sampled and taught by it (distillation).  A sub-network is evaluated without training, after its
batch-norm statistics are recalibrated, and its weights can start a fine-tuning.

Source: Cai et al., Once-for-All, ICLR 2020; sandwich sampling and recalibration as in Yu and Huang,
ICCV 2019.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from codesign.errors import DesignError
from codesign.search._elastic import ElasticMLP, Layout
from codesign.search.problem import Floats, Genomes
from codesign.training.options import TaskArrays

#: What each phase sets free, in the order of the paper (kernel -> precision, then depth, width).
PHASES: Final = ("largest", "precision", "depth", "width")
#: Sub-networks evaluated at once.
_LANES: Final = 16


@dataclass(frozen=True, kw_only=True)
class SupernetOptions:
    """How a supernet is trained.

    Attributes:
        epochs: passes per phase, in the order of `PHASES`.
        n_samples: random sub-networks per step, beside the largest one.
        batch_size: rows per step and sub-network; every sub-network gets rows of its own.
        learning_rate: peak, of Adam with a cosine to zero over all phases.
        temperature: softening of the teacher's answers.
        n_calibration: training rows that batch-norm statistics are taken from.
    """

    epochs: tuple[int, int, int, int] = (3, 2, 2, 8)
    n_samples: int = 15
    batch_size: int = 128
    learning_rate: float = 0.02
    temperature: float = 2.0
    n_calibration: int = 768

    def __post_init__(self) -> None:
        if min(self.epochs) < 0 or sum(self.epochs) < 1 or self.n_samples < 1:
            raise DesignError(
                f"supernet: expected epochs of at least 0, one of them positive, and n_samples of "
                f"at least 1, got {self.epochs} and {self.n_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class Supernet:
    """A trained supernet.

    Attributes:
        layout: the searched genes.
        model: its weights.
        n_calibration: training rows that batch-norm statistics are taken from.
        seconds: how long its training took.
    """

    layout: Layout
    model: ElasticMLP
    n_calibration: int
    seconds: float

    def score(self, genomes: Genomes, task: TaskArrays, *, n_rows: int | None = None) -> Floats:
        """Evaluate sub-networks without training.

        Args:
            genomes: int64[n, n_var]; genes that are not searched are taken from the base.
            task: its *training* arrays' last rows are used; the test rows are not read.
            n_rows: how many of them; None: a quarter.

        Returns:
            float64[n], score in 0..1.
        """
        rows = len(task.y_train) // 4 if n_rows is None else n_rows
        return shared_score(
            self.model, genomes, task, n_rows=rows, n_calibration=self.n_calibration
        )


def shared_score(
    model: ElasticMLP, genomes: Genomes, task: TaskArrays, *, n_rows: int, n_calibration: int
) -> Floats:
    """Evaluate sub-networks of shared weights, without training.

    Args:
        model: the weights.
        genomes: int64[n, n_var].
        task: the last of its training rows judge, the first calibrate batch norm; the test rows
            are not read.
        n_rows: how many judge.
        n_calibration: how many calibrate.

    Returns:
        float64[n], score in 0..1.
    """
    last = slice(len(task.y_train) - n_rows, None)
    inputs, labels = torch.tensor(task.x_train[last]), torch.tensor(task.y_train[last])
    calibration = torch.tensor(task.x_train[:n_calibration])
    parts = np.array_split(genomes, -(-len(genomes) // _LANES))
    return np.concatenate([_score(model, part, calibration, inputs, labels) for part in parts])


def _score(
    model: ElasticMLP,
    genomes: Genomes,
    calibration: torch.Tensor,
    inputs: torch.Tensor,
    labels: torch.Tensor,
) -> Floats:
    """Return float64[n], after batch-norm statistics were taken anew from `calibration`."""
    n = len(genomes)
    with torch.no_grad():
        _, statistics = model.run_lanes(calibration.expand(n, -1, -1), genomes)
        logits, _ = model.run_lanes(inputs.expand(n, -1, -1), genomes, statistics)
    right = logits.argmax(dim=2) == labels
    return np.asarray(right.double().mean(dim=1).numpy())


def train_supernet(
    layout: Layout,
    task: TaskArrays,
    options: SupernetOptions,
    *,
    seed: int,
    feasible: Genomes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Supernet:
    """Train a supernet by progressive shrinking.

    The last quarter of the training rows is left out: sub-networks are compared on it.

    Args:
        layout: the elastic genes.
        task: standardised arrays; the test rows are not read.
        options: the schedule.
        seed: fixes everything.
        feasible: int64[n, n_var], designs that fit the budget; in the last phase sub-networks are
            drawn from these, so that the weights serve no network that nobody may build.  None:
            from all.
        progress: told the share done.
    """
    started_s = time.perf_counter()
    generator = np.random.default_rng(seed)
    model = ElasticMLP(layout, seed=seed)
    n_train = len(task.y_train) - len(task.y_train) // 4
    inputs, labels = torch.tensor(task.x_train[:n_train]), torch.tensor(task.y_train[:n_train])
    n_batches = max(1, n_train // options.batch_size)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    n_steps = sum(options.epochs) * n_batches
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps + 1)
    largest = _largest(layout)[None, :]
    teacher: ElasticMLP | None = None
    n_done = 0
    for i_phase, n_epochs in enumerate(options.epochs):
        if i_phase == 1:
            teacher = copy.deepcopy(model)
        n_lanes = 1 if teacher is None else 1 + options.n_samples
        for _ in range(n_epochs):
            # one permutation per lane: in an epoch every lane sees every row
            order = torch.from_numpy(
                np.stack([generator.permutation(n_train) for _ in range(n_lanes)])
            )
            for i in range(n_batches):
                rows = order[:, i * options.batch_size : (i + 1) * options.batch_size]
                batch, targets = inputs[rows], labels[rows]
                if feasible is not None and i_phase == len(PHASES) - 1:
                    sampled = feasible[generator.integers(len(feasible), size=n_lanes - 1)]
                else:
                    sampled = _sample(layout, i_phase, n_lanes - 1, generator)
                answers, _ = model.run_lanes(batch, np.concatenate([largest, sampled]))
                loss = torch.nn.functional.cross_entropy(answers[0], targets[0])
                if teacher is not None:
                    with torch.no_grad():
                        flat, _ = teacher.run_lanes(
                            batch[1:].reshape(1, -1, batch.shape[2]), largest
                        )
                    loss = loss + options.n_samples**0.5 * _taught_loss(
                        answers[1:].reshape(-1, answers.shape[2]),
                        flat[0],
                        targets[1:].reshape(-1),
                        options.temperature,
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                n_done += 1
            if progress is not None:
                progress(n_done / n_steps)
    return Supernet(
        layout=layout,
        model=model,
        n_calibration=options.n_calibration,
        seconds=time.perf_counter() - started_s,
    )


def _largest(layout: Layout) -> np.ndarray:
    genome = layout.base.copy()
    for name in layout.elastic:
        values = layout.values[name]
        if name.startswith("pruned"):
            genome[layout.index[name]] = int(np.argmin(values))
        else:
            is_number = not isinstance(values[0], str)
            genome[layout.index[name]] = int(np.argmax(values)) if is_number else 0
    return genome


def _sample(layout: Layout, i_phase: int, n: int, generator: np.random.Generator) -> Genomes:
    """Draw sub-networks that differ from the largest only in what the phases so far set free."""
    genomes = np.repeat(_largest(layout)[None, :], n, axis=0)
    for name in layout.elastic:
        kind = "precision" if "bits" in name else name.split("_")[0]
        # operators and pruning are set free together with precision: none removes a channel
        kind = {"activation": "precision", "pruned": "precision"}.get(kind, kind)
        phase = PHASES.index(kind)
        if phase <= i_phase:
            genomes[:, layout.index[name]] = generator.integers(len(layout.values[name]), size=n)
    return genomes


def _taught_loss(
    answer: torch.Tensor, taught: torch.Tensor, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Half cross entropy with the labels, half divergence from the teacher (Hinton et al., 2015)."""
    soft = torch.nn.functional.kl_div(
        torch.log_softmax(answer / temperature, dim=1),
        torch.softmax(taught / temperature, dim=1),
        reduction="batchmean",
    )
    hard = torch.nn.functional.cross_entropy(answer, targets)
    return 0.5 * hard + 0.5 * temperature**2 * soft
