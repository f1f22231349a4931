"""Fixed-point formats, as `ap_fixed<bits, integer_bits, rounding, overflow>` defines them."""

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError

ROUNDINGS = ("TRN", "RND", "RND_CONV")
OVERFLOWS = ("WRAP", "SAT")
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
        if not 1 <= self.bits <= 62:
            raise DesignError(
                f"a fixed-point word has 1 to 62 bits, got {self.bits}; choose a narrower type"
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
        scaled = np.ldexp(np.asarray(values, dtype=np.float64), self.fraction_bits)
        if not np.isfinite(scaled).all():
            raise DesignError(
                f"cannot quantize NaN or infinity to {self.to_hls()}; clean the data first"
            )
        if self.rounding == "TRN":
            rounded = np.floor(scaled)
        elif self.rounding == "RND":
            rounded = np.floor(scaled + 0.5)
        else:
            rounded = np.rint(scaled)
        if self.overflow == "SAT":
            return np.clip(rounded, self.min_word, self.max_word).astype(np.int64)
        span = float(1 << self.bits)
        return np.asarray(np.mod(rounded - self.min_word, span) + self.min_word, dtype=np.int64)

    def values_from_words(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the real values (float64, exact up to 53 bits) of raw words."""
        return np.ldexp(np.asarray(words).astype(np.float64), -self.fraction_bits)

    def cast_words(self, words: NDArray[np.int64], source: "FixedPoint") -> NDArray[np.int64]:
        """Convert raw words of format `source` into this format, in integer arithmetic only.

        Args:
            words: int64 words of `source`, any shape.
            source: the format that the words are in.
        """
        shift = source.fraction_bits - self.fraction_bits
        words = np.asarray(words, dtype=np.int64)
        if shift > 0:
            low = words & ((np.int64(1) << min(shift, 62)) - 1)
            words = words >> min(shift, 63)
            half = np.int64(1) << (shift - 1) if shift < 63 else np.int64(1) << 62
            if self.rounding == "RND":
                words = words + (low >= half)
            elif self.rounding == "RND_CONV":
                words = words + ((low > half) | ((low == half) & ((words & 1) == 1)))
        elif shift < 0:
            if self.overflow == "SAT":  # clip first: the shift itself must not overflow 64 bits
                words = np.clip(
                    words,
                    self.min_word >> -shift if -shift < 63 else -1,
                    (self.max_word >> -shift) + 1,
                )
            words = words << -shift
        if self.overflow == "SAT":
            return np.clip(words, self.min_word, self.max_word)
        span_mask = (np.int64(1) << self.bits) - 1
        wrapped = words & span_mask
        return np.where(self.signed & (wrapped > self.max_word), wrapped - (span_mask + 1), wrapped)


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
