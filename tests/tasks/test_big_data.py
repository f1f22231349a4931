"""Data of any size: rows of a mapped file without the file, and a million rows within a stated memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DataError
from codesign.tasks import load_task

ROOT = Path(__file__).resolve().parents[2]


def peak_of(code: str, *arguments: str, timeout_s: float) -> dict[str, float]:
    """Run a program of its own; returns what it prints as JSON."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


LOAD = """
import json, resource, sys
from codesign.tasks import load_task
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_task("npy", {"path": sys.argv[1], "n_rows_max": 20000, "split": "sklearn"})
rows = sorted(data.x_train[:, 0].tolist() + data.x_test[:, 0].tolist())
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"grown_mb": grown / 1024, "first": rows[0], "last": rows[-1], "n": len(set(rows))}))
"""


def test_ten_million_rows_are_mapped_and_only_the_rows_asked_for_are_read(tmp_path):
    n, n_read = 10_000_000, 20_000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", dtype=np.int16, shape=(n, 57))
    rows = np.arange(n_read) * n // n_read
    x[rows, 0] = np.arange(n_read)  # the rest stays a hole of the file: 1.1 GB that are nowhere
    x.flush()
    del x
    np.save(tmp_path / "y.npy", (np.arange(n) // 7 % 2).astype(np.int8))
    found = peak_of(LOAD, str(tmp_path), timeout_s=120)
    # every row that was read is the one meant, evenly over the whole file
    assert (found["first"], found["last"], found["n"]) == (0, n_read - 1, n_read)
    # pages of the mapped block count as well; all of the file is 1,140 MB
    assert found["grown_mb"] < 450


def test_arrays_that_do_not_belong_together_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 2)))
    with pytest.raises(DataError, match=r"y.npy does not exist; expected a file"):
        load_task("npy", {"path": tmp_path})
    np.save(tmp_path / "y.npy", np.zeros(4))
    with pytest.raises(DataError, match="x.npy has 5 rows, y.npy 4; expected one for each row"):
        load_task("npy", {"path": tmp_path})
    (tmp_path / "y.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"y.npy cannot be mapped .* save it with numpy.save"):
        load_task("npy", {"path": tmp_path})


SEARCH = """
import json, resource, sys
import numpy as np

def main():
    from codesign.processes import worker_pool
    from codesign.space import candidates_from_population, load_space
    from codesign.tasks import fit_scaling, load_task
    from codesign.training import TaskArrays, TrainingOptions, train_population

    data = load_task("npy", {"path": sys.argv[1], "split": "sklearn"})
    arrays = TaskArrays.of(data, fit_scaling(data))
    space = load_space("mlp_tiny", n_inputs=57, n_outputs=2)
    population = space.decode(space.sample(2, np.random.default_rng(0)))
    chosen = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    options = TrainingOptions(epochs=1, batch_size=8192, chunk_size=1)
    with worker_pool(2) as pool:
        train_population(chosen, arrays, options, seed=1, executor=pool)
    own, child = (
        resource.getrusage(who).ru_maxrss / 2**20
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({"own_gb": own, "worker_gb": child, "rows": len(data.x_train) + len(data.x_test)}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_million_rows_are_labelled_by_two_workers_within_4_gb(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((1_000_000, 57), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", (x[:, 0] + x[:, 1] > 0).astype(np.int8))
    del x
    (tmp_path / "search.py").write_text(SEARCH)  # workers import the program that starts them
    code = f"import runpy, sys; sys.argv = {['search.py', str(tmp_path)]!r}; " + (
        f"runpy.run_path({str(tmp_path / 'search.py')!r}, run_name='__main__')"
    )
    found = peak_of(code, timeout_s=600)
    print(found)
    assert found["rows"] == 1_000_000
    assert found["own_gb"] + 2 * found["worker_gb"] < 4.0
