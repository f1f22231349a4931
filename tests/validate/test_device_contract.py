"""Every kind of device keeps the promises of one; boards are stood for by their twins."""

import pytest

from codesign.errors import ToolError
from codesign.export.hls4ml import export_hls4ml
from codesign.export.onnx import export_onnx
from codesign.export.rtl import export_rtl
from codesign.testing.devices import DeviceContract
from codesign.validate import DeviceContext, open_device
from codesign.validate.verilator import verilator_environment
from tests.export.random_networks import random_network


class TestTorch(DeviceContract):
    @pytest.fixture
    def device(self, context):
        return open_device("torch:", context)


class TestOnnx(DeviceContract):
    @pytest.fixture
    def device(self, network, context, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(export_onnx(network).content)
        return open_device(f"onnx:{path}", context)


class TestEmulator(DeviceContract):
    @pytest.fixture
    def device(self, library, context):
        return open_device(f"emulator:{library}", context)


class TestTcp(DeviceContract):
    @pytest.fixture
    def device(self, twin, context):
        return open_device(twin, context)


@pytest.fixture(scope="module")
def small():
    return random_network(
        5, max_width=8, n_blocks=1, activations=("relu",), strategies=("distributed_arithmetic",)
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of builds for this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
class TestRtl(DeviceContract):
    @pytest.fixture
    def network(self, small):
        return small

    @pytest.fixture
    def device(self, small, cache, tmp_path):
        try:
            verilator_environment()
        except ToolError as error:
            pytest.skip(str(error))
        folder = export_rtl(small).plan.write(tmp_path / "rtl")
        return open_device(f"rtl:{folder}?gaps=3", DeviceContext(network=small))


@pytest.mark.slow
class TestCSimulation(DeviceContract):
    @pytest.fixture
    def network(self, small):
        return small

    @pytest.fixture
    def device(self, small, cache, tmp_path):
        folder = export_hls4ml(small).plan.write(tmp_path / "hls4ml_vitis")
        return open_device(f"csim:{folder}", DeviceContext(network=small))
