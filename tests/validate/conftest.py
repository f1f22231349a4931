"""One small network, its emulator library, and twins of it, shared by the tests of this folder."""

import pytest

from codesign.errors import ToolError
from codesign.export.emulator import build_emulator
from codesign.testing.twins import tcp_twin
from codesign.tools import require_tool
from codesign.validate import DeviceContext
from codesign.validate.forms import reference_form
from tests.export.random_networks import random_network, random_words, write_emulator


@pytest.fixture(scope="session")
def network():
    """Three blocks with a concatenation and an addition, 22 inputs of 7 bits, 4 outputs of 9 bits."""
    return random_network(5, max_width=32, n_blocks=3, activations=("relu",))


@pytest.fixture(scope="session")
def reference(network):
    return reference_form(network)


@pytest.fixture(scope="session")
def context(network):
    return DeviceContext(network=network)


@pytest.fixture(scope="session")
def words(network):
    return random_words(network, 600, seed=3)


@pytest.fixture(scope="session")
def library(network, tmp_path_factory):
    """The emulator library of `network`, built once."""
    try:
        require_tool("g++"), require_tool("make")
    except ToolError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("emulator")
    write_emulator(network, folder, name="tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXXFLAGS", "-O1")  # the makefile's own choice builds longer
        return build_emulator(folder)


@pytest.fixture(scope="session")
def twin(library, tmp_path_factory):
    """URL of a TCP twin that runs for the whole session."""
    with tcp_twin(tmp_path_factory.mktemp("twin"), library, "--idle-timeout-s", "5") as url:
        yield url
