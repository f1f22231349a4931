"""Fixed-point formats, as `ap_fixed<bits, integer_bits, rounding, overflow>` defines them."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError

ROUNDINGS = ("TRN", "RND", "RND_CONV")
OVERFLOWS = ("WRAP", "SAT")
#: Widest word: words and sums of two fit a 64-bit integer.
MAX_BITS = 62
_HLS_TYPE = re.compile(
    r"^(?:ap_)?(u?)fixed<\s*(\d+)\s*,\s*(-?\d+)\s*(?:,\s*(?:AP_)?(\w+)\s*(?:,\s*(?:AP_)?(\w+)\s*(?:,\s*0\s*)?)?)?>$"
)


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """A fixed-point format.

    Attributes:
        bits: width of the word in bits, 1 to 62 (so that words and sums fit a 64-bit integer).
        integer_bits: bits left of the binary point, sign bit included when signed; may be negative
            or exceed `bits`, as in `ap_fixed`.
        signed: two's complement when true.
        rounding: what happens to bits below the least significant one: TRN (floor), RND (half up),
            RND_CONV (half to even).
        overflow: WRAP (modulo) or SAT (clip to the representable range).

    Source: AMD UG1399, arbitrary precision fixed-point data types.
    """

    bits: int
    integer_bits: int
    signed: bool = True
    rounding: str = "TRN"
    overflow: str = "SAT"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise DesignError(
                f"a fixed-point word has 1 to {MAX_BITS} bits, got {self.bits}; choose a narrower type"
            )
        if abs(self.integer_bits) > 64:
            raise DesignError(
                f"integer bits of {self.to_hls()} must lie in -64..64; rescale the data"
            )
        if self.rounding not in ROUNDINGS or self.overflow not in OVERFLOWS:
            raise DesignError(
                f"rounding {self.rounding!r} / overflow {self.overflow!r} unknown;"
                f" choose from {ROUNDINGS} and {OVERFLOWS}"
            )

    @property
    def fraction_bits(self) -> int:
        """Bits right of the binary point (may be negative)."""
        return self.bits - self.integer_bits

    @property
    def lsb(self) -> float:
        """Value of the least significant bit."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def min_word(self) -> int:
        """Smallest raw word."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max_word(self) -> int:
        """Largest raw word."""
        return (1 << (self.bits - 1 if self.signed else self.bits)) - 1

    @property
    def min_value(self) -> float:
        """Smallest representable value."""
        return self.min_word * self.lsb

    @property
    def max_value(self) -> float:
        """Largest representable value."""
        return self.max_word * self.lsb

    def to_hls(self) -> str:
        """Return the C++ type, `ap_fixed<8,3,AP_TRN,AP_SAT>`."""
        prefix = "ap_fixed" if self.signed else "ap_ufixed"
        return f"{prefix}<{self.bits},{self.integer_bits},AP_{self.rounding},AP_{self.overflow}>"

    @classmethod
    def from_hls(cls, text: str) -> "FixedPoint":
        """Read a C++ type; rounding and overflow default to TRN and WRAP, as in `ap_fixed`.

        Raises:
            DesignError: the text is no fixed-point type.
        """
        match = _HLS_TYPE.match(text.strip())
        if match is None:
            raise DesignError(f"{text!r} is no fixed-point type; expected one like ap_fixed<16,6>")
        unsigned, bits, integer_bits, rounding, overflow = match.groups()
        return cls(
            bits=int(bits),
            integer_bits=int(integer_bits),
            signed=not unsigned,
            rounding=rounding or "TRN",
            overflow=overflow or "WRAP",
        )

    def words_from_values(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Quantize real values to raw words.

        Args:
            values: any shape; finite.

        Returns:
            int64 words of the same shape, inside `min_word`..`max_word`.

        Raises:
            DesignError: a value is NaN or infinite.
        """
        scaled = scaled_values(values, self.fraction_bits, self.to_hls())
        return overflow_words(
            round_values(scaled, self.rounding),
            self.min_word,
            self.max_word,
            np.asarray(self.bits),
            self.overflow,
        )

    def values_from_words(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the real values (float64, exact up to 53 bits) of raw words."""
        return np.ldexp(np.asarray(words).astype(np.float64), -self.fraction_bits)

    def cast_words(self, words: NDArray[np.int64], source: "FixedPoint") -> NDArray[np.int64]:
        """Convert raw words of format `source` into this format, in integer arithmetic only.

        Args:
            words: int64 words of `source`, any shape.
            source: the format that the words are in.
        """
        return cast_words(
            words,
            np.asarray(source.fraction_bits - self.fraction_bits),
            self.min_word,
            self.max_word,
            np.asarray(self.bits),
            self.rounding,
            self.overflow,
        )


# ---- the one arithmetic: arrays of words, each element with a type of its own ----------------------
def scaled_values(
    values: NDArray[np.floating], fraction_bits: NDArray[np.int64] | int, name: str
) -> NDArray[np.float64]:
    """Return values in units of their least significant bits.

    Raises:
        DesignError: a value is NaN or infinite.
    """
    scaled = np.ldexp(np.asarray(values, dtype=np.float64), fraction_bits)
    if not np.isfinite(scaled).all():
        raise DesignError(f"cannot quantize NaN or infinity to {name}; clean the data first")
    return np.asarray(scaled)


def round_values(scaled: NDArray[np.float64], rounding: str) -> NDArray[np.float64]:
    """Round values in units of the least significant bit to whole numbers."""
    if rounding == "TRN":
        return np.floor(scaled)
    return np.floor(scaled + 0.5) if rounding == "RND" else np.rint(scaled)


def overflow_words(
    words: NDArray[Any],
    low: NDArray[np.int64] | int,
    high: NDArray[np.int64] | int,
    bits: NDArray[np.int64],
    overflow: str,
) -> NDArray[np.int64]:
    """Bring whole numbers into low..high, the range of a word of `bits` bits: clip or wrap."""
    if overflow == "SAT":
        return np.asarray(np.clip(words, low, high), dtype=np.int64)
    if words.dtype.kind == "f":  # exact: a power of two as divisor
        return np.asarray(np.mod(words - low, np.ldexp(1.0, bits)) + low, dtype=np.int64)
    span = np.asarray(np.int64(1) << bits)
    return np.asarray(((words - low) & (span - 1)) + low, dtype=np.int64)


def cast_words(
    words: NDArray[np.int64],
    shift: NDArray[np.int64],
    low: NDArray[np.int64] | int,
    high: NDArray[np.int64] | int,
    bits: NDArray[np.int64],
    rounding: str,
    overflow: str,
) -> NDArray[np.int64]:
    """Convert words to types with `shift` fewer fraction bits (more, where negative), as `ap_fixed` does.

    Args:
        words: int64, any shape.
        shift: fraction bits lost per element; it and all below broadcast against `words`.
        low, high: range of the result words.
        bits: width of the result words, 0 to 62.
        rounding, overflow: as in `FixedPoint`.
    """
    words = np.asarray(words, dtype=np.int64)
    result = words >> np.clip(shift, 0, 63)
    if rounding != "TRN":
        right = np.clip(shift, 0, 62)
        lost = words & ((np.int64(1) << right) - 1)
        half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 1)
        is_up = lost >= half
        if rounding == "RND_CONV":
            is_up = (lost > half) | ((lost == half) & ((result & 1) == 1))
        result = result + np.where(shift > 62, words < 0, is_up)  # beyond 62 bits: nearest is 0
    left = np.clip(-shift, 0, 62)
    if left.any():
        if overflow == "SAT":  # clip first: the shift itself must not overflow 64 bits
            result = np.clip(result, np.asarray(low) >> left, (np.asarray(high) >> left) + 1)
        result = result << left
    return overflow_words(result, low, high, bits, overflow)


def integer_bits_for(max_abs: float, *, signed: bool) -> int:
    """Return the fewest integer bits (sign included) whose range covers magnitude `max_abs`.

    The result covers `max_abs` up to one least significant bit, which saturation absorbs.

    Args:
        max_abs: largest magnitude, at least 0.
        signed: whether a sign bit is needed.
    """
    magnitude = max(float(max_abs), 2.0**-30)
    return math.ceil(math.log2(magnitude)) + (1 if signed else 0)


def covering_format(min_word: int, max_word: int, fraction_bits: int) -> FixedPoint:
    """Return the narrowest format with `fraction_bits` that holds every word in a range, exactly.

    Raises:
        DesignError: more than 62 bits would be needed.
    """
    signed = min_word < 0
    magnitude_bits = max(
        max(max_word, 0).bit_length(), (-min_word - 1).bit_length() if signed else 0
    )
    bits = max(magnitude_bits + signed, 1)
    return FixedPoint(bits=bits, integer_bits=bits - fraction_bits, signed=signed)
