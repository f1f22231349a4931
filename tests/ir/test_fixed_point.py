"""Fixed-point formats behave as ap_fixed does."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import DesignError
from codesign.ir import FixedPoint, covering_format, integer_bits_for

formats = st.builds(
    FixedPoint,
    bits=st.integers(1, 20),
    integer_bits=st.integers(-4, 12),
    signed=st.booleans(),
    rounding=st.sampled_from(["TRN", "RND", "RND_CONV"]),
    overflow=st.sampled_from(["SAT", "WRAP"]),
)


def oracle(value: Fraction, fmt: FixedPoint) -> int:
    """Quantize with exact fractions, straight from the definition."""
    scaled = value * Fraction(2) ** fmt.fraction_bits
    floor = scaled.numerator // scaled.denominator
    rest = scaled - floor
    half = Fraction(1, 2)
    if fmt.rounding == "TRN":
        word = floor
    elif fmt.rounding == "RND":
        word = floor + (rest >= half)
    else:
        word = floor + (rest > half or (rest == half and floor % 2 == 1))
    if fmt.overflow == "SAT":
        return min(max(word, fmt.min_word), fmt.max_word)
    return (word - fmt.min_word) % (1 << fmt.bits) + fmt.min_word


@given(formats, st.integers(-(2**24), 2**24), st.integers(-3, 16))
def test_quantization_follows_the_definition(fmt, numerator, shift):
    value = Fraction(numerator) / Fraction(2) ** shift
    assert fmt.words_from_values(np.array([float(value)]))[0] == oracle(value, fmt)


@given(formats, formats, st.data())
def test_casting_words_equals_quantizing_their_values(source, target, data):
    words = np.array(
        data.draw(st.lists(st.integers(source.min_word, source.max_word), min_size=1, max_size=8))
    )
    expected = [
        oracle(Fraction(int(w)) / Fraction(2) ** source.fraction_bits, target) for w in words
    ]
    assert target.cast_words(words, source).tolist() == expected


@given(formats)
def test_the_hls_type_reads_back_as_the_same_format(fmt):
    assert FixedPoint.from_hls(fmt.to_hls()) == fmt


@given(st.integers(-(2**30), 2**30), st.integers(0, 2**20), st.integers(-5, 10))
def test_a_covering_format_holds_its_range_and_no_narrower_one_does(low, span, fraction):
    fmt = covering_format(low, low + span, fraction)
    assert fmt.min_word <= low and low + span <= fmt.max_word
    if fmt.bits > 1 + fmt.signed:
        narrow = FixedPoint(bits=fmt.bits - 1, integer_bits=fmt.integer_bits - 1, signed=fmt.signed)
        assert low < narrow.min_word or low + span > narrow.max_word


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [(1.0, True, 1), (1.01, True, 2), (0.3, False, -1), (4, False, 2)],
)
def test_integer_bits_cover_the_magnitude(value, signed, expected):
    assert integer_bits_for(value, signed=signed) == expected


def test_nan_is_refused():
    with pytest.raises(DesignError, match="NaN"):
        FixedPoint(bits=8, integer_bits=3).words_from_values(np.array([np.nan]))


@pytest.mark.parametrize("text", ["float", "ap_fixed<>", "ap_fixed<16>", "ap_fixed<16,6;rm -rf>"])
def test_other_types_are_refused(text):
    with pytest.raises(DesignError, match="no fixed-point type"):
        FixedPoint.from_hls(text)
