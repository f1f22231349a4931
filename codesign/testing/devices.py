"""What every implementation promises, boards and simulators alike: exact words, honest descriptions."""

from __future__ import annotations

import numpy as np

from codesign.errors import DesignError
from codesign.ir import QuantizedNetwork
from codesign.validate.compare import first_differing_node, run_checked
from codesign.validate.faults import DeviceFault
from codesign.validate.forms import reference_form
from codesign.validate.implementation import DeviceDescription, Implementation, Words, port_triple
from codesign.validate.vectors import corner_words, random_words


class DeviceContract:
    """Tests of one implementation of a network.

    The fixture `device` gives it, not loaded; the fixture `network` gives what it computes.
    """

    def vectors(self, network: QuantizedNetwork) -> Words:
        """Return the words to try, int64[n, n_inputs]."""
        return np.concatenate([random_words(network, 200, 0), corner_words(network)])

    def test_it_computes_the_words_of_the_reference(
        self, device: Implementation, network: QuantizedNetwork
    ) -> None:
        words = self.vectors(network)
        reference = reference_form(network)
        expected = reference.run(words)
        assert (expected != expected[0]).any(), "a constant network proves nothing"
        with device:
            formats = reference.description.output_formats
            assert np.array_equal(run_checked(device, words, formats), expected)
            assert np.array_equal(run_checked(device, words[:1], formats), expected[:1])
            assert np.array_equal(run_checked(device, words[::-1], formats), expected[::-1])

    def test_it_says_what_it_is(self, device: Implementation, network: QuantizedNetwork) -> None:
        expected = DeviceDescription.of(network, "any")
        with device:
            described = device.describe()
        assert described.kind
        assert described.digest == network.digest
        for ours, theirs in (
            (expected.input_formats, described.input_formats),
            (expected.output_formats, described.output_formats),
        ):
            assert [port_triple(f) for f in ours] == [port_triple(f) for f in theirs]
        assert DeviceDescription.from_json(described.to_json()) == described

    def test_events_are_counted_from_each_load(
        self, device: Implementation, network: QuantizedNetwork
    ) -> None:
        words = random_words(network, 7, 1)
        for _ in range(2):
            device.load()
            assert device.counters()["events"] == 0
            device.run(words)
            device.run(words[:3])
            assert device.counters()["events"] == 10
        device.close()
        device.close()

    def test_words_that_do_not_fit_are_refused_before_it_sees_them(
        self, device: Implementation, network: QuantizedNetwork
    ) -> None:
        import pytest

        words = random_words(network, 3, 1)
        outside = words.copy()
        outside[1, 0] = network.input_format.max_word + 1
        with device:
            with pytest.raises(DesignError, match="shape"):
                device.run(words[:, :-1])
            with pytest.raises(DesignError, match="event 1, input 0 lies outside"):
                device.run(outside)
            assert device.counters()["events"] == 0

    def test_what_shows_inside_is_right(
        self, device: Implementation, network: QuantizedNetwork
    ) -> None:
        words = self.vectors(network)[:50]
        trace = reference_form(network).trace
        assert trace is not None, "the reference shows every node"
        with device:
            shown = device.trace(words)
        if shown is not None:
            assert set(shown) & set(trace(words)), "it names no node of the network"
            assert first_differing_node(trace(words), shown) is None

    def test_a_clock_that_shows_is_the_one_it_states(
        self, device: Implementation, network: QuantizedNetwork
    ) -> None:
        with device:
            timing, described = device.measure_timing(), device.describe()
        if timing is not None:
            assert timing.interval_cycles >= 1
            assert described.latency_cycles in (None, timing.latency_cycles)

    def test_what_is_not_loaded_says_so(self, device: Implementation) -> None:
        import pytest

        with pytest.raises(DeviceFault, match="load the device first"):
            device.describe()
        device.close()
