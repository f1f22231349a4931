"""Backend of the emulator twin: the versioned emulator library behind the board's own server."""

import array
import ctypes
import os

_TYPES = {1: "b", 2: "h", 4: "i", 8: "q"}


class Backend:
    """Runs words through `<prefix>_run` of the emulator library."""

    def __init__(self, folder, options):
        """Args: folder of the server; options: library, prefix, n_inputs, n_outputs, word bytes."""
        library = ctypes.CDLL(os.path.join(folder, options["library"]))
        self._run = getattr(library, options["prefix"] + "_run")
        self._run.restype = ctypes.c_int64
        pointer = ctypes.c_void_p
        self._run.argtypes = [pointer, pointer, ctypes.c_int64]
        self._n_inputs = options["n_inputs"]
        self._n_outputs = options["n_outputs"]
        self._type_in = _TYPES[options["word_bytes_in"]]
        self._type_out = _TYPES[options["word_bytes_out"]]

    def reset(self):
        """Do nothing: an emulator has no state."""

    def run(self, words, n_events):
        """Compute a batch of raw words."""
        source = array.array("q", array.array(self._type_in, words))
        result = array.array("q", bytes(8 * n_events * self._n_outputs))
        bad = self._run(source.buffer_info()[0], result.buffer_info()[0], n_events)
        if bad:
            raise RuntimeError(f"event {bad - 1} lies outside the input format")
        return array.array(self._type_out, result).tobytes()
