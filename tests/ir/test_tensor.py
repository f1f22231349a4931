"""A tensor rounds each element as its own fixed-point format does, on one grid."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import DesignError
from codesign.ir import FixedPoint, QuantizedNetwork, TensorType, Words
from tests.export.random_networks import random_network, random_words, reference


@st.composite
def tensor_types(draw):
    """Types of 1 to 6 elements, some without bits, in one or two dimensions."""
    shape = draw(st.sampled_from([(1,), (4,), (2, 3)]))
    n = int(np.prod(shape))

    def per_element(values):
        return np.array(draw(st.lists(values, min_size=n, max_size=n))).reshape(shape)

    return TensorType(
        shape=shape,
        signed=per_element(st.booleans()),
        bits=per_element(st.integers(0, 9)),
        integer_bits=per_element(st.integers(-4, 8)),
        rounding=draw(st.sampled_from(["TRN", "RND", "RND_CONV"])),
        overflow=draw(st.sampled_from(["SAT", "WRAP"])),
    )


def formats(kind):
    """The format of every element, None for those without bits."""
    found = [fmt for _, count, fmt in kind.elements() for _ in range(count)]
    assert len(found) == kind.size
    return found


@given(tensor_types(), st.integers(0, 2**32), st.integers(-3, 12))
@settings(max_examples=200)
def test_elements_round_as_their_own_formats_do(kind, seed, fraction_bits):
    source = np.random.default_rng(seed).integers(-(2**14), 2**14, (20, *kind.shape))
    values = np.ldexp(source.astype(float), -fraction_bits)
    expected = np.zeros((20, kind.size))
    for element, fmt in enumerate(formats(kind)):
        if fmt is not None:
            one = values.reshape(20, -1)[:, element]
            expected[:, element] = fmt.values_from_words(fmt.words_from_values(one))
    from_values, from_words = kind.words_from_values(values), kind.cast_words(source, fraction_bits)
    assert np.array_equal(kind.values_from_words(from_values).reshape(20, -1), expected)
    assert np.array_equal(from_values, from_words)
    assert kind.holds(from_words)


@given(tensor_types(), st.integers(0, 2**32))
def test_a_type_holds_what_it_draws_and_nothing_beyond(kind, seed):
    drawn = kind.draw(np.random.default_rng(seed), 30)
    assert kind.holds(drawn)
    assert (kind.covering.min_word <= drawn).all() and (drawn <= kind.covering.max_word).all()
    assert not kind.holds(kind.max_words + 1)
    assert not kind.holds(kind.min_words - 1)
    for element, zeros in enumerate(np.broadcast_to(kind.trailing_zeros, kind.shape).ravel()):
        if zeros:
            words = np.zeros(kind.size, dtype=np.int64)
            words[element] = 1
            assert not kind.holds(words.reshape(kind.shape))


@given(tensor_types())
def test_the_json_form_reads_back_as_the_same_type(kind):
    again = TensorType.from_json(json.loads(json.dumps(kind.to_json())))
    assert again == kind and again.to_json() == kind.to_json()
    assert kind.reshaped((kind.size,)).reshaped(kind.shape) == kind


def test_one_format_for_all_is_said_once():
    fmt = FixedPoint(bits=5, integer_bits=2, rounding="RND", overflow="WRAP")
    spelled = TensorType(
        shape=(3,),
        signed=np.ones(3),
        bits=np.full(3, 5),
        integer_bits=np.full(3, 2),
        rounding="RND",
        overflow="WRAP",
    )
    assert spelled == TensorType.of(fmt, (3,)) and spelled.uniform == fmt == spelled.covering
    assert spelled != TensorType.of(fmt, (4,))
    assert TensorType.of(fmt, (2,)).to_json()["bits"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": np.array([1, 2, 3])}, "does not broadcast"),
        ({"bits": np.array([3, 63])}, "0 to 62 bits"),
        ({"bits": np.array([-1, 3])}, "0 to 62 bits"),
        ({"integer_bits": np.array([40, -40])}, "1 to 62 bits, got 82"),
        ({"rounding": "UP"}, "rounding 'UP'"),
    ],
)
def test_impossible_types_are_refused(changes, message):
    arguments = {"signed": True, "bits": np.array([1, 2]), "integer_bits": 1} | changes
    with pytest.raises(DesignError, match=message):
        TensorType(shape=(2,), **arguments)


def test_constants_lie_in_their_type_and_never_change():
    fmt = FixedPoint(bits=4, integer_bits=2)
    words = Words.of(np.array([[1, -8]]), fmt)
    assert words.real.tolist() == [[0.25, -2.0]]
    with pytest.raises(DesignError, match="outside ap_fixed<4,2"):
        Words.of(np.array([8]), fmt)
    with pytest.raises(DesignError, match="type of shape"):
        Words(values=np.zeros((2, 1)), type=words.type)
    with pytest.raises(ValueError):
        words.values[0, 0] = 2


def test_a_network_reads_back_with_the_same_digest(tmp_path):
    network = random_network(3)
    network.save(tmp_path / "net.npz")
    again = QuantizedNetwork.load(tmp_path / "net.npz")
    assert again.digest == network.digest
    words = random_words(network, 50)
    assert np.array_equal(reference(again, words), reference(network, words))


def test_files_of_schema_1_are_read(tmp_path):
    network = random_network(5)
    arrays, formats = {}, {"weight": {}, "bias": {}}
    for name, roles in network.constants.items():
        for role, words in roles.items():
            arrays[f"{role}_words/{name}"] = words.values
            formats[role][name] = words.type.uniform.to_hls()
    meta = {
        "schema": 1,
        "candidate": network.candidate.to_json(),
        "network": network.network.to_json(),
        "result": {name: kind.uniform.to_hls() for name, kind in network.result.items()},
        "weight_format": formats["weight"],
        "bias_format": formats["bias"],
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    np.savez(tmp_path / "old.npz", **arrays)
    assert QuantizedNetwork.load(tmp_path / "old.npz").digest == network.digest


def test_damaged_and_unknown_files_are_refused(tmp_path):
    network = random_network(5)
    path = tmp_path / "net.npz"
    network.save(path)
    path.write_bytes(b"PK" + bytes(20))
    with pytest.raises(DesignError, match="not a quantized network"):
        QuantizedNetwork.load(path)
    meta = np.frombuffer(json.dumps({"schema": 3}).encode(), dtype=np.uint8)
    np.savez(path, meta=meta)
    with pytest.raises(DesignError, match="schema 3; this version reads"):
        QuantizedNetwork.load(path)
