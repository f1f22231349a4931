"""A trained network on its fixed-point grid: integer constants and exact types, ready for export."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.files import replacing
from codesign.ir.candidate import Candidate
from codesign.ir.fixed_point import FixedPoint
from codesign.ir.network import Network
from codesign.ir.tensor import TensorType, Words

SCHEMA = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedNetwork:
    """A network whose every tensor is a set of integer words with a known type.

    Batch norms are folded into the nodes before them.  What follows from a network (the type and range
    of every tensor) is computed once per object by `codesign.layers.typed`; nothing changes in place.

    Attributes:
        candidate: the pair it realises (its network may hold batch norms).
        network: the folded network.
        result: per node that rounds (input and activations): the type of its output.  The types of all
            other nodes follow exactly.
        constants: per node that has any, by role ("weight", "bias", "table"): its constant words.
    """

    candidate: Candidate
    network: Network
    result: Mapping[str, TensorType]
    constants: Mapping[str, Mapping[str, Words]]

    @property
    def input_type(self) -> TensorType:
        """Type of the input."""
        return self.result[self.network.nodes[0].name]

    @property
    def input_format(self) -> FixedPoint:
        """Format of every input port; its words are further confined to their elements of `input_type`."""
        return self.input_type.covering

    def input_values(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return what the network reads of a task's inputs, or of its own given flat.

        Args:
            values: float[n, *task shape], of which the network reads the `leading` ones; or
                float[n, n_inputs].

        Returns:
            float[n, n_inputs].
        """
        known, values = self.input_type, np.asarray(values)
        return values if values.shape[1:] == (known.size,) else leading(values, known.shape)

    def input_words(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Quantize real inputs to the words that enter the network.

        Args:
            values: as `input_values` takes them, scaled and finite.

        Returns:
            int64[n, n_inputs], words of `input_format`.
        """
        known = self.input_type
        shaped = self.input_values(values).reshape(len(values), *known.shape)
        return known.words_from_values(shaped).reshape(len(values), -1)

    @property
    def output_format(self) -> FixedPoint:
        """Format of every output port (the last node always rounds)."""
        return self.result[self.network.nodes[-1].name].covering

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over candidate, types and words."""
        total = hashlib.sha256(_meta_text(self).encode())
        for _, words in self._arrays():
            total.update(np.ascontiguousarray(words, dtype="<i8").tobytes())
        return total.hexdigest()[:16]

    def _arrays(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Return the words of every constant by "node/role", in sorted order."""
        return sorted(
            (f"{name}/{role}", words.values)
            for name, roles in self.constants.items()
            for role, words in roles.items()
        )

    def to_bytes(self) -> bytes:
        """Return everything as the content of one `.npz` (no pickled objects)."""
        arrays = dict(self._arrays())
        arrays["meta"] = np.frombuffer(_meta_text(self).encode(), dtype=np.uint8)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()

    def save(self, path: Path) -> None:
        """Write everything to one `.npz`, by way of a temporary file."""
        with replacing(path) as stream:
            stream.write(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> "QuantizedNetwork":
        """Read what `save` wrote, of this version or one before.

        Raises:
            DesignError: the file is missing, damaged, holds pickled objects or has an unknown schema.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DesignError(
                f"{path}: not a quantized network ({error}); train the candidate again"
            ) from error
        return cls.from_bytes(content, str(path))

    @classmethod
    def from_bytes(cls, content: bytes, path: str) -> "QuantizedNetwork":
        """Read what `to_bytes` returned, of this version or one before.

        Args:
            content: what it returned.
            path: where it came from, for errors.

        Raises:
            DesignError: it is damaged, holds pickled objects or has an unknown schema.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {k: archive[k] for k in archive.files}
            meta = json.loads(arrays.pop("meta").tobytes().decode())
            if meta.get("schema") not in (1, SCHEMA):
                raise DesignError(
                    f"{path}: schema {meta.get('schema')!r}; this version reads schemas 1 and {SCHEMA}"
                )
            network = Network.from_json(meta["network"])
            read = _read_schema_1 if meta["schema"] == 1 else _read_schema_2
            result, constants = read(network, meta, arrays)
            candidate = Candidate.from_json(meta["candidate"])
        except (OSError, ValueError, KeyError, EOFError, AttributeError) as error:
            if isinstance(error, DesignError):
                raise
            raise DesignError(
                f"{path}: not a quantized network ({error}); train the candidate again"
            ) from error
        return cls(candidate=candidate, network=network, result=result, constants=constants)


_Parts = tuple[dict[str, TensorType], dict[str, dict[str, Words]]]


def _read_schema_2(
    network: Network, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int64]]
) -> _Parts:
    return (
        {name: TensorType.from_json(value) for name, value in meta["result"].items()},
        {
            name: {
                role: Words(values=arrays[f"{name}/{role}"], type=TensorType.from_json(value))
                for role, value in roles.items()
            }
            for name, roles in meta["constants"].items()
        },
    )


def _read_schema_1(
    network: Network, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int64]]
) -> _Parts:
    """Read formats without shapes and dense layers only, as the first version wrote them."""
    constants: dict[str, dict[str, Words]] = {}
    for name in meta["weight_format"]:
        constants[name] = {
            role: Words.of(
                arrays[f"{role}_words/{name}"], FixedPoint.from_hls(meta[f"{role}_format"][name])
            )
            for role in ("weight", "bias")
        }
    width: dict[str, int] = {}
    for node in network.nodes:
        if node.name in constants:
            width[node.name] = constants[node.name]["bias"].values.size
        elif not node.inputs:
            width[node.name] = int(node.parameters["width"])
        else:
            read = node.inputs if node.layer == "concat" else node.inputs[:1]
            width[node.name] = sum(width[name] for name in read)
    result = {
        name: TensorType.of(FixedPoint.from_hls(text), (width[name],))
        for name, text in meta["result"].items()
    }
    return result, constants


def _meta_text(network: QuantizedNetwork) -> str:
    return json.dumps(
        {
            "schema": SCHEMA,
            "candidate": network.candidate.to_json(),
            "network": network.network.to_json(),
            "result": {name: value.to_json() for name, value in network.result.items()},
            "constants": {
                name: {role: words.type.to_json() for role, words in roles.items()}
                for name, roles in network.constants.items()
            },
        },
        sort_keys=True,
    )


def leading(values: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Return what a network reads of a task's inputs: the leading positions and features, flat.

    Sources order particles and features by importance, so a network that takes fewer takes the first.

    Args:
        values: float[n, *task shape].
        shape: of the network's input.

    Returns:
        float[n, product of shape].

    Raises:
        DesignError: the task has another rank, or fewer values along an axis, or a flat task another
            number of features.
    """
    known = values.shape[1:]
    fits = len(known) == len(shape) and all(a >= b for a, b in zip(known, shape, strict=True))
    if not fits or (len(shape) == 1 and known != shape):
        raise DesignError(
            f"a network takes inputs of shape {shape}, the task has {known};"
            " decode the space for this task"
        )
    window = (slice(None), *map(slice, shape))
    return values[window].reshape(len(values), math.prod(shape))
