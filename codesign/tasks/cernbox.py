"""The CERNBox jet set (HDF5 with the ending `.z`): 986,806 jets after removing repeated rows.

The data set `t_allpar_new` is a table with one row per particle of a jet in some versions, so rows with
equal features and labels are one jet.  Labels are one-hot columns g, q, w, z, t: another order than
OpenML's, and another benchmark.
"""

from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.tasks._download import sha256_of
from codesign.tasks._hdf5 import dataset_of, open_hdf5
from codesign.tasks._labels import decode_one_hot
from codesign.tasks._options import SplitOptions
from codesign.tasks._prepare import from_table, require_path
from codesign.tasks.base import TASKS, Check, Task, TaskData, row_keys
from codesign.tasks.openml import FEATURES

TABLE = "t_allpar_new"
CLASSES = ("g", "q", "w", "z", "t")
#: Jets of the full set, as published results state it.
N_JETS = 986_806
#: Rows read at a time: with a row per particle the table does not fit into memory.
BLOCK_ROWS = 1_000_000


class CernboxOptions(SplitOptions):
    """Options of the CERNBox set.

    Attributes:
        path: the file `processed-pythia82-lhc13-all-pt1-50k-r1_h022_e0175_t220_nonu_truth.z`.
    """

    path: Path


class CernboxJets(Task):
    """The CERNBox set."""

    name = "cernbox"
    description = (
        "the CERNBox jet set (.z, HDF5): 16 features, 5 classes, 986,806 jets; not OpenML's"
    )
    needs = "a path"
    options_type = CernboxOptions

    def load(self, options: CernboxOptions) -> TaskData:
        """Load the file; see `Task.load`."""
        where = f"task.{self.name}"
        path = require_path(options.path, kind="file", where=where)
        with open_hdf5(path, where=where) as file:
            dataset = dataset_of(file, TABLE, where=where)
            columns = dataset.dtype.names or ()
            wanted = [f"j_{name}" for name in (*FEATURES, *CLASSES)]
            absent = [column for column in wanted if column not in columns]
            if absent:
                raise DataError(
                    f"{where}: {TABLE} lacks the columns {absent}; is it the CERNBox jet file?"
                )
            n_rows = len(dataset)
            table = _unique_rows(dataset, wanted)
        repeated = Check(
            name="repeated_rows",
            outcome="noted" if len(table) < n_rows else "passed",
            detail=f"{n_rows - len(table)} of {n_rows} rows repeat another and were removed",
        )
        is_whole = len(table) == N_JETS
        detail = f"{len(table)} jets of {N_JETS}" + (
            "" if is_whole else ": not reported as cernbox-hlf"
        )
        return from_table(
            name=self.name,
            benchmark="cernbox-hlf" if is_whole else None,
            x=table[:, : len(FEATURES)],
            y=decode_one_hot(table[:, len(FEATURES) :], where=where),
            feature_names=FEATURES,
            class_names=CLASSES,
            options=options,
            provenance={"file": path.name, "sha256": sha256_of(path), "table": TABLE},
            checks=[
                repeated,
                Check(name="benchmark", outcome="passed" if is_whole else "noted", detail=detail),
            ],
        )


def _unique_rows(dataset: Any, columns: list[str]) -> np.ndarray:
    """Return the first of equal rows, in order, float32 [n, n_columns]; reads block by block."""
    kept, seen = [np.zeros((0, len(columns)), np.float32)], np.zeros(0, np.uint64)
    for start in range(0, len(dataset), BLOCK_ROWS):
        rows = dataset.fields(columns)[start : start + BLOCK_ROWS]
        block = np.stack([rows[column] for column in columns], axis=1).astype(np.float32)
        keys, first = np.unique(row_keys(block), return_index=True)
        first = np.sort(first[~np.isin(keys, seen)])
        kept.append(block[first])
        seen = np.concatenate((seen, keys))
    return np.concatenate(kept)


TASKS.add(CernboxJets.name, CernboxJets())
