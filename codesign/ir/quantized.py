"""A trained network on its fixed-point grid: integer weights and exact formats, ready for export."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.files import replacing
from codesign.ir.candidate import Candidate
from codesign.ir.fixed_point import FixedPoint
from codesign.ir.network import Network

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class QuantizedNetwork:
    """A network whose every tensor is a set of integer words with a known format.

    Batch norms are folded: `network` holds input, dense, activations (relu, leaky_relu, tanh,
    sigmoid, linear), add, concat and flatten nodes only.

    Attributes:
        candidate: the pair it realises (its network may hold batch norms).
        network: the folded network.
        result: per node that rounds (input and activations): the format of its output.  The formats
            of all other nodes follow exactly; `codesign.layers.infer_formats` derives them.
        weight_words: per dense node: int64[n_in, n_out] raw words.
        weight_format: per dense node: format of the weights.
        bias_words: per dense node: int64[n_out] raw words.
        bias_format: per dense node: format of the biases.
    """

    candidate: Candidate
    network: Network
    result: Mapping[str, FixedPoint]
    weight_words: Mapping[str, NDArray[np.int64]]
    weight_format: Mapping[str, FixedPoint]
    bias_words: Mapping[str, NDArray[np.int64]]
    bias_format: Mapping[str, FixedPoint]

    def __post_init__(self) -> None:
        for words_by_node, formats in (
            (self.weight_words, self.weight_format),
            (self.bias_words, self.bias_format),
        ):
            for name, words in words_by_node.items():
                fmt = formats[name]
                if words.size and (words.min() < fmt.min_word or words.max() > fmt.max_word):
                    raise DesignError(
                        f"{name}: a stored word lies outside {fmt.to_hls()}; quantize it again"
                    )

    @property
    def input_format(self) -> FixedPoint:
        """Format of every input word."""
        return self.result[self.network.nodes[0].name]

    @property
    def output_format(self) -> FixedPoint:
        """Format of every output word (the last node always rounds)."""
        return self.result[self.network.nodes[-1].name]

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over candidate, formats and words."""
        return hashlib.sha256(_meta_text(self).encode() + self._word_bytes()).hexdigest()[:16]

    def _word_bytes(self) -> bytes:
        buffer = io.BytesIO()
        for name in sorted(self.weight_words):
            buffer.write(np.ascontiguousarray(self.weight_words[name], dtype="<i8").tobytes())
            buffer.write(np.ascontiguousarray(self.bias_words[name], dtype="<i8").tobytes())
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write everything to one `.npz` (no pickled objects), by way of a temporary file."""
        arrays = {f"weight_words/{k}": v for k, v in self.weight_words.items()}
        arrays |= {f"bias_words/{k}": v for k, v in self.bias_words.items()}
        arrays["meta"] = np.frombuffer(_meta_text(self).encode(), dtype=np.uint8)
        with replacing(path) as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "QuantizedNetwork":
        """Read what `save` wrote.

        Raises:
            DesignError: the file is missing, damaged, holds pickled objects or has another schema.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {k: archive[k] for k in archive.files}
            meta = json.loads(arrays.pop("meta").tobytes().decode())
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DesignError(
                f"{path}: not a quantized network ({error}); train the candidate again"
            ) from error
        if meta.get("schema") != SCHEMA:
            raise DesignError(
                f"{path}: schema {meta.get('schema')!r}; this version reads schema {SCHEMA}"
            )

        def formats(key: str) -> dict[str, FixedPoint]:
            return {name: FixedPoint.from_hls(text) for name, text in meta[key].items()}

        def words(kind: str) -> dict[str, NDArray[np.int64]]:
            return {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(kind + "/")}

        return cls(
            candidate=Candidate.from_json(meta["candidate"]),
            network=Network.from_json(meta["network"]),
            result=formats("result"),
            weight_words=words("weight_words"),
            weight_format=formats("weight_format"),
            bias_words=words("bias_words"),
            bias_format=formats("bias_format"),
        )


def _meta_text(network: QuantizedNetwork) -> str:
    return json.dumps(
        {
            "schema": SCHEMA,
            "candidate": network.candidate.to_json(),
            "network": network.network.to_json(),
            "result": {k: v.to_hls() for k, v in network.result.items()},
            "weight_format": {k: v.to_hls() for k, v in network.weight_format.items()},
            "bias_format": {k: v.to_hls() for k, v in network.bias_format.items()},
        },
        sort_keys=True,
    )
