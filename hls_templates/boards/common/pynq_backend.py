"""Backend for PYNQ boards: hls4ml's VivadoAccelerator design behind its own DMA driver.

Beside this file lie the bitstream with its .hwh file, and `axi_stream_driver.py` as hls4ml wrote it.
The design's stream carries float32; a raw word w of a port with f fraction bits is the value w * 2**-f,
exact for words of up to 24 bits.
"""

import os

import numpy as np
from axi_stream_driver import NeuralNetworkOverlay


class Backend:
    """Runs words through the overlay, `batch_events` at a time."""

    def __init__(self, folder, options):
        """Args: folder of the server; options of config.json: bitstream, batch_events, ports."""
        self._path = os.path.join(folder, options["bitstream"])
        self._batch_events = int(options["batch_events"])
        self._types = [f"<i{options['word_bytes_' + way]}" for way in ("in", "out")]
        self._shapes = [(self._batch_events, options["n_" + way]) for way in ("inputs", "outputs")]
        self._scale_in = np.ldexp(1.0, -np.array(options["input_fraction_bits"]))
        self._scale_out = np.ldexp(1.0, np.array(options["output_fraction_bits"]))
        self._overlay = None

    def reset(self):
        """Load the bitstream again: that resets the logic."""
        self._overlay = NeuralNetworkOverlay(self._path, self._shapes[0], self._shapes[1])

    def run(self, words, n_events):
        """Compute a batch of raw words; the last, shorter block is padded with zeros."""
        source = np.frombuffer(words, dtype=self._types[0]).reshape(n_events, -1)
        result = np.empty((n_events, self._shapes[1][1]), dtype=self._types[1])
        for start in range(0, n_events, self._batch_events):
            block = source[start : start + self._batch_events]
            padded = np.zeros(self._shapes[0], dtype=np.float32)
            padded[: len(block)] = block * self._scale_in
            values = np.asarray(self._overlay.predict(padded), dtype=np.float64)[: len(block)]
            scaled = values * self._scale_out
            if not (scaled == np.rint(scaled)).all():
                raise ValueError("the firmware returned values off its output grid")
            result[start : start + len(block)] = scaled
        return result.tobytes()
