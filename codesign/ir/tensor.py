"""Tensors of fixed-point words: every element may have a type of its own.

All words of a tensor share one grid, the finest of its elements: an element with fewer fraction bits
than `TensorType.fraction_bits` is a word with zeros at its end.  So additions, products and
concatenations need no shift per element, and ports stay arrays of one format (`TensorType.covering`);
only what rounds looks at single elements.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir.fixed_point import (
    MAX_BITS,
    FixedPoint,
    cast_words,
    overflow_words,
    round_values,
    scaled_values,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorType:
    """Shape and fixed-point type of a tensor.

    Attributes:
        shape: of one event, e.g. (features,), (particles, features), (rows, columns, channels).
        signed: bool, two's complement where true; like the next two, of any shape that broadcasts to
            `shape`, 0-d where all elements are equal.
        bits: int64, width of the word in bits, 0 to 62; an element of 0 bits is constantly zero.
        integer_bits: int64, bits left of the binary point, as in `FixedPoint`.
        rounding, overflow: as in `FixedPoint`, for all elements.
    """

    shape: tuple[int, ...]
    signed: NDArray[np.bool_]
    bits: NDArray[np.int64]
    integer_bits: NDArray[np.int64]
    rounding: str = "TRN"
    overflow: str = "SAT"

    def __post_init__(self) -> None:
        bits = np.asarray(self.bits, dtype=np.int64)
        # one spelling of a word without bits, so that equal types compare and hash as equal
        signed = np.asarray(self.signed, dtype=bool) & (bits > 0)
        integer_bits = np.where(bits > 0, np.asarray(self.integer_bits, dtype=np.int64), 0)
        for name, values in (("signed", signed), ("bits", bits), ("integer_bits", integer_bits)):
            try:
                np.broadcast_to(values, self.shape)
            except ValueError as error:
                raise DesignError(
                    f"{name} of a tensor type has shape {values.shape}, which does not broadcast to"
                    f" {self.shape}; give one value, or one per element"
                ) from error
            is_one = values.size > 0 and bool((values == values.flat[0]).all())
            frozen = np.array(values.flat[0] if is_one else values)
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        low, high = (int(self.bits.min()), int(self.bits.max())) if self.bits.size else (0, 0)
        if low < 0 or high > MAX_BITS:
            raise DesignError(
                f"words of a tensor have 0 to {MAX_BITS} bits, got {low} to {high}; choose a narrower type"
            )
        self.covering  # noqa: B018  (refuses an unknown mode, and lanes too far apart)

    @classmethod
    def of(cls, fmt: FixedPoint, shape: tuple[int, ...]) -> "TensorType":
        """Return the type of a tensor whose elements all have format `fmt`."""
        return cls(
            shape=shape,
            signed=np.asarray(fmt.signed),
            bits=np.asarray(fmt.bits),
            integer_bits=np.asarray(fmt.integer_bits),
            rounding=fmt.rounding,
            overflow=fmt.overflow,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorType):
            return NotImplemented
        return (
            (self.shape, self.rounding, self.overflow)
            == (other.shape, other.rounding, other.overflow)
            and bool((self.signed == other.signed).all())
            and bool((self.bits == other.bits).all())
            and bool((self.integer_bits == other.integer_bits).all())
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def size(self) -> int:
        """How many elements."""
        return prod(self.shape)

    @cached_property
    def covering(self) -> FixedPoint:
        """The narrowest format that holds the words of every element; the grid of all words.

        Raises:
            DesignError: it would need more than 62 bits.
        """
        if not self.bits.any():
            return FixedPoint(
                bits=1,
                integer_bits=1,
                signed=False,
                rounding=self.rounding,
                overflow=self.overflow,
            )
        bits, integer_bits, is_signed = np.broadcast_arrays(
            self.bits, self.integer_bits, self.signed
        )
        used = bits > 0
        fraction = int((bits - integer_bits)[used].max())
        signed = bool(is_signed.any())
        integer = int((integer_bits + (signed & ~is_signed))[used].max())
        return FixedPoint(
            bits=integer + fraction,
            integer_bits=integer,
            signed=signed,
            rounding=self.rounding,
            overflow=self.overflow,
        )

    @property
    def uniform(self) -> FixedPoint | None:
        """The format of every element, or None where they differ or have no bits."""
        is_uniform = self.bits.ndim == self.integer_bits.ndim == self.signed.ndim == 0
        return self.covering if is_uniform and self.bits else None

    @property
    def fraction_bits(self) -> int:
        """Fraction bits of the grid that all words lie on."""
        return self.covering.fraction_bits

    @cached_property
    def element_fraction_bits(self) -> NDArray[np.int64]:
        """Fraction bits of each element's own type (the grid's where it has no bits)."""
        return np.where(self.bits > 0, self.bits - self.integer_bits, self.fraction_bits)

    @cached_property
    def trailing_zeros(self) -> NDArray[np.int64]:
        """Zeros at the end of each element's words."""
        return np.asarray(self.fraction_bits - self.element_fraction_bits)

    @cached_property
    def _own_range(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Least and greatest word of each element, on its own grid."""
        one = np.int64(1)
        magnitude = self.bits - self.signed
        return np.where(self.signed, -(one << magnitude), 0), (one << magnitude) - 1

    @property
    def min_words(self) -> NDArray[np.int64]:
        """int64[*shape], the least word of each element."""
        return np.broadcast_to(self._own_range[0] << self.trailing_zeros, self.shape)

    @property
    def max_words(self) -> NDArray[np.int64]:
        """int64[*shape], the greatest word of each element."""
        return np.broadcast_to(self._own_range[1] << self.trailing_zeros, self.shape)

    def elements(self) -> Iterator[tuple[int, int, FixedPoint | None]]:
        """Yield runs of equal elements in row-major order: first index, length, format (None: no bits)."""
        if self.bits.ndim == self.integer_bits.ndim == self.signed.ndim == 0:
            yield 0, self.size, self.uniform
            return
        columns = np.stack(
            [
                np.broadcast_to(a, self.shape).ravel()
                for a in (self.bits, self.integer_bits, self.signed)
            ]
        )
        starts = np.flatnonzero((np.diff(columns, axis=1) != 0).any(axis=0)) + 1
        edges = [0, *starts.tolist(), self.size]
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            bits, integer_bits, signed = columns[:, first].tolist()
            fmt = None
            if bits:
                fmt = replace(
                    self.covering, bits=bits, integer_bits=integer_bits, signed=bool(signed)
                )
            yield first, last - first, fmt

    def words_from_values(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Quantize real values [..., *shape] to words.

        Raises:
            DesignError: a value is NaN or infinite.
        """
        scaled = scaled_values(values, self.element_fraction_bits, self.describe())
        low, high = self._own_range
        own = overflow_words(
            round_values(scaled, self.rounding), low, high, self.bits, self.overflow
        )
        return own << self.trailing_zeros

    def values_from_words(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the real values (float64, exact up to 53 bits) of words."""
        return self.covering.values_from_words(words)

    def cast_words(self, words: NDArray[np.int64], fraction_bits: int) -> NDArray[np.int64]:
        """Round words [..., *shape] with `fraction_bits` fraction bits to this type, in integers only."""
        low, high = self._own_range
        shift = np.asarray(fraction_bits - self.element_fraction_bits)
        own = cast_words(words, shift, low, high, self.bits, self.rounding, self.overflow)
        return own << self.trailing_zeros if self.trailing_zeros.any() else own

    def holds(self, words: NDArray[np.int64]) -> bool:
        """Whether all words [..., *shape] are words of their elements: in range, on their own grids."""
        if not words.size:
            return True
        is_inside = (words >= self.min_words).all() and (words <= self.max_words).all()
        return bool(is_inside and not (words & ((np.int64(1) << self.trailing_zeros) - 1)).any())

    def draw(self, generator: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Draw words uniformly, int64[n, *shape]."""
        low, high = (np.broadcast_to(w, self.shape) for w in self._own_range)
        if self.uniform is not None:
            low, high = self._own_range
        return generator.integers(low, high + 1, size=(n, *self.shape)) << self.trailing_zeros

    def describe(self) -> str:
        """Return the HLS type of all elements; where they differ, the covering one and the total of bits."""
        text = self.covering.to_hls()
        if self.uniform is not None:
            return text
        total = int(np.broadcast_to(self.bits, self.shape).sum())
        return f"{text} ({total} bits in {self.size} elements)"

    def reshaped(self, shape: tuple[int, ...]) -> "TensorType":
        """Return the type of the same elements, in row-major order, in another shape."""

        def arranged(values: NDArray[Any]) -> NDArray[Any]:
            return np.broadcast_to(values, self.shape).reshape(shape) if values.ndim else values

        return replace(
            self,
            shape=shape,
            signed=arranged(self.signed),
            bits=arranged(self.bits),
            integer_bits=arranged(self.integer_bits),
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return {
            "shape": list(self.shape),
            "signed": self.signed.tolist(),
            "bits": self.bits.tolist(),
            "integer_bits": self.integer_bits.tolist(),
            "rounding": self.rounding,
            "overflow": self.overflow,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TensorType":
        """Read what `to_json` wrote.

        Raises:
            DesignError: a key is missing or of another type.
        """
        try:
            return cls(
                shape=tuple(map(int, value["shape"])),
                signed=np.array(value["signed"], dtype=bool),
                bits=np.array(value["bits"], dtype=np.int64),
                integer_bits=np.array(value["integer_bits"], dtype=np.int64),
                rounding=str(value["rounding"]),
                overflow=str(value["overflow"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DesignError(
                f"a tensor type lacks or garbles {error}; expected what `to_json` writes"
            ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """Constant words: weights, biases, tables.

    Attributes:
        values: int64[*type.shape], raw words on the grid of `type`.
        type: what each of them may hold.
    """

    values: NDArray[np.int64]
    type: TensorType

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.int64)
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        if values.shape != self.type.shape:
            raise DesignError(
                f"constants of shape {values.shape} have a type of shape {self.type.shape}"
            )
        if not self.type.holds(values):
            raise DesignError(
                f"a stored word lies outside {self.type.describe()}; quantize it again"
            )

    @classmethod
    def of(cls, values: NDArray[np.integer], fmt: FixedPoint) -> "Words":
        """Return words that all have format `fmt`."""
        words = np.asarray(values, dtype=np.int64)
        return cls(values=words, type=TensorType.of(fmt, words.shape))

    @property
    def real(self) -> NDArray[np.float64]:
        """Their real values, float64[*shape]."""
        return self.type.values_from_words(self.values)
