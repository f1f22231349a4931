"""One training of HGQ2 and the RTL of its front, in an environment of its own (see bench_designs.py).

    KERAS_BACKEND=jax python _hgq2_worker.py DATA.npz FOLDER --hidden 32,32 --epochs 2400 --seed 0

DATA.npz holds x_train, y_train, x_validation, y_validation, x_judge, y_judge (standardised).  FOLDER gets
one folder of Verilog per design chosen by its validation rows, and front.json.  Where x is of particles, the network is
JEDI-linear's (arXiv 2508.15468, section 3 and the architecture of its public code).
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from alkaid.codegen import RTLModel
from alkaid.converter import trace_model
from alkaid.trace import HWConfig, trace
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.constraints import MinMax
from hgq.layers import QAdd, QDense, QEinsumDenseBatchnorm, QSum
from hgq.regularizers import MonoL1
from hgq.utils.minmax_trace import trace_minmax
from hgq.utils.sugar import FreeEBOPs
from hgq.utils.sugar.beta_scheduler import BetaScheduler, PieceWiseSchedule

_CYCLE = 120
_RATE = 3e-3


def build(hidden: list[int], n_inputs: int, n_classes: int) -> keras.Model:
    """Return the recipe's network: no batch norm, 4-bit weights, 3 fraction bits in activations."""
    with (
        QuantizerConfigScope(
            place=("weight", "bias"), default_q_type="kbi", b0=4, overflow_mode="SAT_SYM"
        ),
        QuantizerConfigScope(place="datalane", default_q_type="kif", f0=3, overflow_mode="WRAP"),
        LayerConfigScope(enable_ebops=True, beta0=3e-6),
    ):
        layers = [QDense(units, activation="relu") for units in hidden] + [QDense(n_classes)]
        model = keras.Sequential([keras.layers.Input((n_inputs,)), *layers])
    return compiled(model)


def build_jedi(width: int, shape: tuple[int, int], n_classes: int) -> keras.Model:
    """Return JEDI-linear's network: W x + V mean(x) between layers on each particle, all of one width, then three on the sum."""
    n, _ = shape

    def on_particles(units: int, positions: int = n) -> keras.Layer:
        return QEinsumDenseBatchnorm(
            "bnc,cC->bnC", (positions, units), bias_axes="C", activation="relu"
        )

    def on_vector(units: int, activation: str | None = "relu") -> keras.Layer:
        return QEinsumDenseBatchnorm("bc,cC->bC", units, bias_axes="C", activation=activation)

    bits = MonoL1(1e-8)
    with (
        QuantizerConfigScope(default_q_type="kbi", b0=7, i0=0, overflow_mode="WRAP", fr=bits, ir=bits),
        QuantizerConfigScope(
            place="datalane", default_q_type="kif", f0=7, overflow_mode="WRAP", fr=bits, ic=MinMax(0, 12)
        ),
        QuantizerConfigScope(place=("weight", "bias"), overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", heterogeneous_axis=None),
        LayerConfigScope(enable_ebops=True, beta0=1e-8),
    ):  # fmt: skip
        source = keras.layers.Input(shape)
        x = on_particles(width)(source)
        mean = QSum(axes=1, scale=2.0 ** -round(math.log2(n)), keepdims=True)(x)
        x = QAdd()([on_particles(width)(x), on_particles(width, 1)(mean)])
        x = QSum(axes=1, scale=1 / 16, keepdims=False)(on_particles(width)(x))
        for units in (width, width // 2, width // 4):
            x = on_vector(units)(x)
        model = keras.Model(source, on_vector(n_classes, None)(x))
    return compiled(model)


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(_RATE), loss, metrics=["accuracy"], steps_per_execution=8)
    return model


class Front(keras.callbacks.Callback):
    """Weights of every epoch that no other beats in validation accuracy and EBOPs."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[float, float, list[np.ndarray]]] = []

    def on_epoch_end(self, epoch, logs=None):
        score, cost = float(logs["val_accuracy"]), float(logs["ebops"])
        if any(s >= score and c <= cost for s, c, _ in self.points):
            return
        self.points = [p for p in self.points if not (score >= p[0] and cost <= p[1])]
        self.points.append((score, cost, self.model.get_weights()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", default="32,32")
    parser.add_argument("--epochs", type=int, default=2400)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--designs", type=int, default=14, help="traced, spread over the front")
    parser.add_argument("--clock-ns", type=float, default=2.5)
    parser.add_argument("--cutoff", type=float, default=3.0)
    arguments = parser.parse_args()
    data = np.load(arguments.data)
    keras.utils.set_random_seed(arguments.seed)
    hidden = [int(n) for n in arguments.hidden.split(",")]
    shape, n_classes = data["x_train"].shape[1:], int(data["y_train"].max()) + 1
    epochs, front, cycle = arguments.epochs, Front(), min(_CYCLE, arguments.epochs)
    if len(shape) == 1:
        model = build(hidden, shape[0], n_classes)
        prices = [(0, 3e-6, "constant"), (epochs // 25, 3e-6, "log"), (epochs, 1.2e-4, "constant")]
    else:  # its public code's shares of the training and prices, up to a last one that a short training needs
        model = build_jedi(hidden[0], shape, n_classes)
        prices = [(0, 2e-8, "linear"), (2 * epochs // 7, 3e-7, "log"), (epochs, 1e-5, "constant")]
    ramp = PieceWiseSchedule(prices)
    rate = keras.callbacks.LearningRateScheduler(
        lambda epoch: max(_RATE * (0.5 + 0.5 * math.cos(math.pi * (epoch % cycle) / cycle)), 3e-6)
    )
    fit = dict(
        batch_size=arguments.batch_size,
        verbose=0,
        validation_data=(data["x_validation"], data["y_validation"]),
    )
    callbacks = [FreeEBOPs(), BetaScheduler(ramp), rate, front]
    model.fit(
        data["x_train"], data["y_train"], epochs=1, callbacks=callbacks[:3], **fit
    )  # compiles
    started = time.process_time()
    model.fit(data["x_train"], data["y_train"], epochs=epochs, callbacks=callbacks, **fit)
    cpu_s = time.process_time() - started
    points = sorted(front.points, key=lambda p: p[1])
    wanted = np.geomspace(max(points[0][1], 200.0), points[-1][1], arguments.designs)
    costs = np.array([p[1] for p in points])
    chosen = sorted({int(np.abs(np.log(costs / w)).argmin()) for w in wanted})
    designs = []
    for index in chosen:
        score, ebops, weights = points[index]
        model.set_weights(weights)
        trace_minmax(model, data["x_train"], verbose=0)
        source, sink = trace_model(model, HWConfig(1, -1, -1))
        logic = trace(source, sink)
        answers = logic.predict(np.ascontiguousarray(data["x_judge"], dtype=np.float64)).argmax(
            axis=1
        )
        folder = arguments.folder / f"design_{index}"
        rtl = RTLModel(
            logic,
            folder,
            "top",
            latency_cutoff=arguments.cutoff,
            part_name="xcvu13p-flga2577-2-e",
            clock_period=arguments.clock_ns,
            print_latency=False,
        )
        rtl.write()
        designs.append(
            {
                "folder": str(folder),
                "validation_score": score,
                "ebops": ebops,
                "judge_score": float((answers == data["y_judge"]).mean()),
                "adder_cost": float(logic.cost),
                "latency_cycles": int(rtl.latency),
            }
        )
    report = {"cpu_s": cpu_s, "epochs": epochs, "designs": designs}
    (arguments.folder / "front.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
