"""The versioned emulator: bit-exact, deterministic, self-contained, loadable from C++ and Python."""

import subprocess
import sys

import numpy as np
import pytest

from codesign.errors import DesignError, DeviceError, ExportError, ToolError
from codesign.export.emulator import build_emulator, emulator_files, emulator_prefix
from codesign.layers import run_words
from codesign.tools import require_tool, run_tool
from codesign.validate import DeviceContext, DeviceFault, open_device
from codesign.validate.forms import reference_form
from tests.export.random_networks import random_network, random_words, write_emulator


def test_the_same_network_gives_the_same_bytes(network):
    first = emulator_files(network, name="jets", version=3)
    assert first == emulator_files(network, name="jets", version=3)
    assert set(first) == {
        "jets_v3.h", "jets_v3.cpp", "model_jets_v3.cpp", "test_jets_v3.cpp", "jets_v3.py", "Makefile", "README.txt", "golden.txt",
    }  # fmt: skip
    assert not any("@" in text for name, text in first.items() if name != "Makefile")
    assert network.digest in first["jets_v3.h"]


@pytest.mark.parametrize(
    "name", ["Jets", "1jets", "a b", "a;rm", "a__b", "", "x" * 41, "int-1", "a_"]
)
def test_names_that_are_no_identifiers_are_refused(name):
    with pytest.raises(ExportError, match="use up to 40"):
        emulator_prefix(name, 1)


@pytest.mark.parametrize("version", [0, -1, 10_000])
def test_versions_start_at_one(version):
    with pytest.raises(ExportError, match="use 1 to 9999"):
        emulator_prefix("jets", version)


def test_words_and_trace_agree_with_the_reference_node_by_node(
    library, network, context, reference
):
    words = random_words(network, 2000, seed=11)
    with open_device(f"emulator:{library}", context) as device:
        assert np.array_equal(device.run(words), reference.run(words))
        got, expected = device.trace(words), run_words(network, words, trace=True)
        assert list(got) == list(expected)
        for name, table in expected.items():
            assert np.array_equal(got[name], table), name
        assert device.counters()["events"] == 2000


def test_python_loader_needs_nothing_but_the_folder(library, network, reference):
    words = random_words(network, 20, seed=2)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import tiny_v1\n"
        "words = json.loads(sys.argv[2])\n"
        "try:\n    tiny_v1.run([[999] * tiny_v1.N_INPUTS]); sys.exit(3)\nexcept ValueError: pass\n"
        "print(json.dumps(tiny_v1.run(words)))"
    )
    import json

    process = subprocess.run(
        [sys.executable, "-S", "-c", code, str(library.parent), json.dumps(words.tolist())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert np.array_equal(np.array(json.loads(process.stdout)), reference.run(words))


def test_its_own_test_fails_when_a_golden_word_is_wrong(library, tmp_path):
    golden = (library.parent / "golden.txt").read_text().splitlines()
    cells = golden[5].split()
    golden[5] = " ".join([*cells[:-1], str(int(cells[-1]) ^ 1)])
    (tmp_path / "golden.txt").write_text("\n".join(golden))
    program = library.parent / "test_tiny_v1"
    with pytest.raises(ToolError, match="1 mismatches|expected"):
        run_tool([program, tmp_path / "golden.txt"], folder=tmp_path, timeout_s=20)
    with pytest.raises(ToolError, match="missing or belongs to another network"):
        run_tool([program, tmp_path / "none.txt"], folder=tmp_path, timeout_s=20)


def test_a_c_program_can_use_the_library(library, tmp_path, reference, network):
    """The header is plain C."""
    words = random_words(network, 1, seed=5)
    numbers = ", ".join(map(str, words[0].tolist()))
    (tmp_path / "main.c").write_text(
        '#include "tiny_v1.h"\n#include <stdio.h>\nint main(void) {\n'
        f"  int64_t in[TINY_V1_N_INPUTS] = {{{numbers}}}, out[TINY_V1_N_OUTPUTS];\n"
        "  if (tiny_v1_run(in, out, 1)) return 1;\n"
        '  for (int i = 0; i < TINY_V1_N_OUTPUTS; ++i) printf("%lld ", (long long)out[i]);\n'
        "  return 0;\n}\n"
    )
    run_tool(
        [require_tool("g++"), "-x", "c", "main.c", "-I", library.parent, "-x", "none", library, "-o", "main",
         f"-Wl,-rpath,{library.parent}"],
        folder=tmp_path, timeout_s=60,
    )  # fmt: skip
    result = run_tool([tmp_path / "main"], folder=tmp_path, timeout_s=20)
    assert list(map(int, result.output.split())) == reference.run(words)[0].tolist()


#: A loader written from the published interface: virtual functions in this order, two C symbols, one name.
LOADER = r"""
#include <any>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
namespace hls4mlEmulator {
class Model {
public:
    virtual void prepare_input(std::any input) = 0;
    virtual void predict() = 0;
    virtual void read_result(std::any result) = 0;
    virtual ~Model() = default;
};
class ModelLoader {
    std::string name_;
    void* library_ = nullptr;
public:
    explicit ModelLoader(std::string name) : name_(std::move(name)) {}
    ~ModelLoader() { if (library_) dlclose(library_); }
    std::shared_ptr<Model> load_model() {
        library_ = dlopen((name_ + ".so").c_str(), RTLD_LAZY | RTLD_LOCAL);
        if (!library_) throw std::runtime_error(dlerror());
        auto create = reinterpret_cast<Model* (*)()>(dlsym(library_, "create_model"));
        auto destroy = reinterpret_cast<void (*)(Model*)>(dlsym(library_, "destroy_model"));
        if (!create || !destroy) throw std::runtime_error("symbols are missing");
        return {create(), [destroy](Model* model) { destroy(model); }};
    }
};
}
int main(int argc, char** argv) {
    const int n_inputs = std::stoi(argv[2]), n_outputs = std::stoi(argv[3]);
    hls4mlEmulator::ModelLoader loader(argv[1]);
    std::shared_ptr<hls4mlEmulator::Model> model = loader.load_model();
    try { int64_t none[64]; model->read_result(static_cast<int64_t*>(none)); return 3; } catch (const std::logic_error&) {}
    try { model->prepare_input(std::string("words")); return 4; } catch (const std::invalid_argument&) {}
    for (int first = 4; first + n_inputs <= argc; first += n_inputs) {
        std::vector<int64_t> words;
        std::vector<int> narrow;
        for (int i = 0; i < n_inputs; ++i) words.push_back(std::stoll(argv[first + i]));
        narrow.assign(words.begin(), words.end());
        std::vector<int64_t> found(n_outputs);
        std::vector<int> again(n_outputs);
        if (first % 2) model->prepare_input(words); else model->prepare_input(words.data());
        model->predict();
        model->read_result(found.data());
        model->prepare_input(narrow.data());
        model->predict();
        model->read_result(again.data());
        for (int i = 0; i < n_outputs; ++i) {
            if (found[i] != again[i]) return 5;
            std::printf("%lld ", (long long)found[i]);
        }
        words[0] = int64_t(1) << 40;
        model->prepare_input(words);
        try { model->predict(); return 6; } catch (const std::out_of_range&) {}
        try { model->read_result(found.data()); return 7; } catch (const std::logic_error&) {}
    }
    return 0;
}
"""


def test_cms_software_loads_it_by_its_name_and_reads_the_same_words(
    library, tmp_path, reference, network
):
    words = random_words(network, 6, seed=8)
    (tmp_path / "main.cpp").write_text(LOADER)
    run_tool(
        [require_tool("g++"), "-std=c++17", "main.cpp", "-o", "main", "-ldl"],
        folder=tmp_path, timeout_s=60,
    )  # fmt: skip
    numbers = list(map(str, words.ravel().tolist()))
    name = library.parent / "cms" / library.stem.removeprefix("lib")
    sizes = [str(words.shape[1]), str(reference.run(words).shape[1])]
    result = run_tool([tmp_path / "main", name, *sizes, *numbers], folder=tmp_path, timeout_s=20)
    found = np.array(list(map(int, result.output.split()))).reshape(6, -1)
    assert np.array_equal(found, reference.run(words))


def test_another_network_is_refused_by_digest(library):
    other = DeviceContext(network=random_network(6, max_width=4))
    with pytest.raises(DeviceFault, match="wrong-firmware"):
        open_device(f"emulator:{library}", other).load()


def test_what_is_no_emulator_is_refused(tmp_path):
    (tmp_path / "libjets_v1.so").write_bytes(b"not a library")
    with pytest.raises(DeviceError, match="cannot be loaded"):
        open_device(f"emulator:{tmp_path / 'libjets_v1.so'}").load()
    (tmp_path / "other.so").write_bytes(b"")
    with pytest.raises(DesignError, match="expected a name like libjets_v1.so"):
        open_device(f"emulator:{tmp_path / 'other.so'}").load()
    with pytest.raises(ExportError, match="holds no emulator"):
        build_emulator(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_are_bit_exact(seed, tmp_path):
    network = random_network(seed, max_width=10)
    write_emulator(network, tmp_path, name="random")
    library = build_emulator(tmp_path)
    words = random_words(network, 1000, seed=seed)
    with open_device(f"emulator:{library}", DeviceContext(network=network)) as device:
        assert np.array_equal(device.run(words), reference_form(network).run(words))
