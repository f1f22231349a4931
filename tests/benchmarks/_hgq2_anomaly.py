"""One training of HGQ2's autoencoder, with its error on the chip, in an environment of its own (see bench_triggers.py).

    KERAS_BACKEND=jax python _hgq2_anomaly.py DATA.npz FOLDER --hidden 16,3,16 --epochs 400

DATA.npz holds x_train (background), x_validation (background and stand-ins), y_validation and x_judge, scaled.
FOLDER gets one folder of Verilog per design and front.json; scores are read off the traced logic, so that what is
judged is what is built: inputs and reconstruction on one grid, the sum of the squares of their difference.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from alkaid.codegen import RTLModel
from alkaid.converter import trace_model
from alkaid.trace import HWConfig, trace
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.layers import QDense
from hgq.utils.minmax_trace import trace_minmax
from hgq.utils.sugar import FreeEBOPs
from hgq.utils.sugar.beta_scheduler import BetaScheduler, PieceWiseSchedule

sys.setrecursionlimit(100_000)  # logic is deeper than functions usually call
_RATE = 3e-3
#: Of inputs and of the error's grid, beside the sign; 4 fraction bits instead of 2 cost a tenth more and find no more.
_INTEGER_BITS, _FRACTION_BITS = 3, 2


def build(hidden: list[int], n_inputs: int) -> keras.Model:
    """Return a chain as HGQ2 recommends it: 4-bit weights and 3 fraction bits to begin with."""
    with (
        QuantizerConfigScope(
            place=("weight", "bias"), default_q_type="kbi", b0=4, overflow_mode="SAT_SYM"
        ),
        QuantizerConfigScope(place="datalane", default_q_type="kif", f0=3, overflow_mode="WRAP"),
        LayerConfigScope(enable_ebops=True, beta0=1e-7),
    ):
        # the bottleneck in the middle is linear, as in the published one
        middle = len(hidden) // 2
        layers = [
            QDense(units, activation=None if i == middle else "relu")
            for i, units in enumerate(hidden)
        ]
        model = keras.Sequential([keras.layers.Input((n_inputs,)), *layers, QDense(n_inputs)])
    model.compile(keras.optimizers.Adam(_RATE), "mse", steps_per_execution=8)
    return model


class Front(keras.callbacks.Callback):
    """Weights of every epoch that no other beats in validation loss and EBOPs."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[float, float, list[np.ndarray]]] = []

    def on_epoch_end(self, epoch, logs=None):
        loss, cost = float(logs["val_loss"]), float(logs["ebops"])
        if any(s <= loss and c <= cost for s, c, _ in self.points):
            return
        self.points = [p for p in self.points if not (loss <= p[0] and cost <= p[1])]
        self.points.append((loss, cost, self.model.get_weights()))


def error_logic(model: keras.Model):
    """Trace the network and the sum of its squared errors, inputs and reconstruction on one grid."""
    source, rebuilt = trace_model(model, HWConfig(1, -1, -1))
    grid = {"k": 1, "i": _INTEGER_BITS, "f": _FRACTION_BITS}
    # inputs come saturated (`saturated`), which an input cannot do in alkaid before it is a word
    difference = source.quantize(**grid) - rebuilt.quantize(**grid, overflow_mode="SAT")
    lanes = np.empty(difference.size, dtype=object)
    lanes[:] = [lane * lane for lane in np.asarray(difference).ravel()]
    squares = type(source)(lanes[None], source.solver_options, hwconf=source.hwconf)
    outputs = np.sum(squares, axis=1)
    delay(np.asarray(outputs).ravel()[0], {})
    return trace(source, outputs)


def delay(variable, latency: dict) -> float:
    """Let nothing be ready before what it is computed from: alkaid 0.8.2 sorts by latency, and gets some too low."""
    if variable.id not in latency:
        before = [delay(other, latency) for other in variable._from or ()]
        latency[variable.id] = max([variable.latency, *before])
    variable.latency = latency[variable.id]
    return variable.latency


def saturated(x: np.ndarray) -> np.ndarray:
    """Return inputs as a saturating input type hands them over, on the error's grid."""
    step = 2.0**-_FRACTION_BITS
    high = 2.0**_INTEGER_BITS
    return np.clip(np.round(x / step) * step, -high, high - step)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", default="16,3,16")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock-ns", type=float, default=5.0)
    parser.add_argument("--designs", type=int, default=4)
    arguments = parser.parse_args()
    data = dict(np.load(arguments.data))
    for part in ("x_train", "x_validation", "x_judge"):
        data[part] = saturated(data[part]).astype(np.float32)
    keras.utils.set_random_seed(arguments.seed)
    model = build([int(n) for n in arguments.hidden.split(",")], data["x_train"].shape[1])
    background = data["x_validation"][data["y_validation"] == 0]
    front, epochs = Front(), arguments.epochs
    ramp = PieceWiseSchedule([(0, 1e-7, "constant"), (epochs // 10, 1e-7, "log"), (epochs, 3e-5, "constant")])  # fmt: skip
    model.fit(
        data["x_train"],
        data["x_train"],
        epochs=epochs,
        batch_size=512,
        verbose=0,
        validation_data=(background, background),
        callbacks=[FreeEBOPs(), BetaScheduler(ramp), front],
    )
    points = sorted(front.points, key=lambda p: p[1])
    costs = np.array([p[1] for p in points])
    wanted = np.geomspace(max(costs[0], 200.0), costs[-1], arguments.designs)
    designs = []
    for index in sorted({int(np.abs(np.log(costs / w)).argmin()) for w in wanted}):
        loss, ebops, weights = points[index]
        model.set_weights(weights)
        trace_minmax(model, data["x_train"], verbose=0)
        logic = error_logic(model)
        validation, judged = (
            logic.predict(np.ascontiguousarray(data[part], dtype=np.float64))[:, 0].tolist()
            for part in ("x_validation", "x_judge")
        )
        folder = arguments.folder / f"design_{index}"
        rtl = RTLModel(
            logic,
            folder,
            "top",
            latency_cutoff=3.0,
            part_name="xc7vx690tffg1927-2",
            clock_period=arguments.clock_ns,
            print_latency=False,
        )
        rtl.write()
        designs.append(
            {
                "folder": str(folder),
                "loss": loss,
                "ebops": ebops,
                "adder_cost": float(logic.cost),
                "latency_cycles": int(rtl.latency),
                "validation": validation,
                "judged": judged,
            }
        )
    (arguments.folder / "front.json").write_text(json.dumps(designs))


if __name__ == "__main__":
    main()
