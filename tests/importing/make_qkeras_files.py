"""Write `files/qkeras_*.h5` with QKeras itself, and what it answers; run where QKeras 0.9.0 and TensorFlow 2.15 are.

pip install "tensorflow-cpu==2.15.1" "qkeras==0.9.0" "pyparsing<3.1"; python tests/importing/make_qkeras_files.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from qkeras import (
    QActivation,
    QConv2D,
    QDense,
    binary,
    quantized_bits,
    quantized_po2,
    quantized_relu,
    quantized_tanh,
    ternary,
)

keras = tf.keras.layers
FOLDER = Path(__file__).parent / "files"


def bits(n: int, integer: int = 0, alpha: Any = 1) -> Any:
    return quantized_bits(n, integer, alpha=alpha)


def dense() -> Any:
    return tf.keras.Sequential([
        keras.Input((16,)),
        QActivation(bits(8, 3)),
        QDense(12, kernel_quantizer=bits(6), bias_quantizer=bits(6)),
        QActivation(quantized_relu(6, 2)),
        QDense(8, kernel_quantizer=quantized_bits(4, 0), bias_quantizer=quantized_bits(6, 1)),
        QActivation("quantized_relu(5,1)"),
        QDense(5, kernel_quantizer=ternary(), bias_quantizer=quantized_bits(6, 1)),
        QActivation(bits(12, 5)),
    ])  # fmt: skip


def functional() -> Any:
    source = keras.Input((10,), name="x")
    q = QActivation(bits(9, 4))(source)
    biases = {"bias_quantizer": quantized_bits(5, 1)}
    a = QActivation(quantized_relu(6, 2))(QDense(8, kernel_quantizer=bits(5, 1), **biases)(q))
    b = QActivation(quantized_tanh(6))(QDense(8, kernel_quantizer=binary(alpha=1), **biases)(q))
    joined = keras.Concatenate()([keras.Add()([a, b]), a])
    last = QDense(
        3,
        kernel_quantizer=quantized_po2(4),
        bias_quantizer=quantized_bits(8, 3),
        activation=bits(12, 6),
    )
    return tf.keras.Model(source, last(joined))


def conv() -> Any:
    source = keras.Input((8, 6, 2))
    x = QActivation(bits(6, 2))(source)
    biases = {"bias_quantizer": quantized_bits(5, 0)}
    x = QConv2D(4, (3, 3), kernel_quantizer=bits(5), padding="same", **biases)(x)
    x = keras.MaxPooling2D(2)(QActivation(quantized_relu(5, 2))(x))
    x = QConv2D(3, (2, 2), kernel_quantizer=bits(5, 0, "auto_po2"), **biases)(x)
    x = keras.Flatten()(QActivation(quantized_relu(5, 2))(x))
    x = QDense(4, kernel_quantizer=bits(5, 0, "auto"), bias_quantizer=quantized_bits(6, 1))(x)
    return tf.keras.Model(source, QActivation(bits(12, 5))(x))


if __name__ == "__main__":
    tf.keras.utils.set_random_seed(1)
    for build in (dense, functional, conv):
        model, generator = build(), np.random.default_rng(0)
        shape = model.input_shape[1:]
        x = generator.normal(size=(500, *shape)) * 2
        model.compile("adam", "mse")
        model.fit(x, generator.normal(size=(500, model.output_shape[-1])), epochs=3, verbose=0)
        given = (np.round(generator.normal(size=(300, *shape)) * 128) / 64).astype(np.float32)
        name = f"qkeras_{build.__name__}"
        model.save(FOLDER / f"{name}.h5", include_optimizer=False)
        answers = model.predict(given, verbose=0)
        np.savez_compressed(FOLDER / f"{name}.npz", inputs=given, outputs=answers)
