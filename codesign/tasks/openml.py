"""The public LHC jet set, OpenML 42468 (`hls4ml_lhc_jets_hlf`): 830,000 jets, 16 features, 5 classes.

Downloaded only by `codesign data fetch openml`, cached and checksummed; or read from a path (ARFF or
parquet).  Not the CERNBox set: the same network scores about a percentage point apart on the two.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.files import replacing
from codesign.tasks._download import download, read_json_from, sha256_of, verify_cached
from codesign.tasks._labels import encode_labels
from codesign.tasks._options import SplitOptions
from codesign.tasks._prepare import from_table, require_path
from codesign.tasks.base import TASKS, Check, Task, TaskData
from codesign.tools import cache_folder

OPENML_ID = 42468
#: Rows of the full set; the tutorial prints (830000, 16).
N_ROWS = 830_000
FEATURES = (
    "zlogz",
    "c1_b0_mmdt",
    "c1_b1_mmdt",
    "c1_b2_mmdt",
    "c2_b1_mmdt",
    "c2_b2_mmdt",
    "d2_b1_mmdt",
    "d2_b2_mmdt",
    "d2_a1_b1_mmdt",
    "d2_a1_b2_mmdt",
    "m2_b1_mmdt",
    "m2_b2_mmdt",
    "n2_b1_mmdt",
    "n2_b2_mmdt",
    "mass_mmdt",
    "multiplicity",
)
#: Label order of scikit-learn's LabelEncoder on this set.
CLASSES = ("g", "q", "t", "w", "z")
API = "https://www.openml.org/api/v1/json/data"
FETCH_COMMAND = "codesign data fetch openml"


class OpenmlOptions(SplitOptions):
    """Options of the OpenML set.

    Attributes:
        path: an ARFF or parquet file downloaded by hand; the cache when left out.
    """

    path: Path | None = None


class OpenmlJets(Task):
    """OpenML 42468."""

    name = "openml"
    description = "the public LHC jet set, OpenML 42468: 16 features, 5 classes, 830,000 jets"
    needs = f"a download ({FETCH_COMMAND}) or a path"
    options_type = OpenmlOptions

    def load(self, options: OpenmlOptions) -> TaskData:
        """Load from the cache or a path; see `Task.load`."""
        where = f"task.{self.name}"
        provenance: dict[str, Any] = {"openml_id": OPENML_ID}
        if options.path is None:
            path = cached_path()
            provenance |= verify_cached(path, command=FETCH_COMMAND)
            x, labels = _read_once(path, provenance["sha256"], where)
        else:
            path = require_path(options.path, kind="file", where=f"{where}.path")
            provenance |= {"file": path.name, "sha256": sha256_of(path)}
            x, labels = _read(path, where)
        y, classes = encode_labels(labels, class_names=CLASSES, where=where)
        is_whole = len(x) == N_ROWS
        detail = f"{len(x)} rows of {N_ROWS}" + (
            "" if is_whole else ": not reported as openml-42468"
        )
        return from_table(
            name=self.name,
            benchmark="openml-42468" if is_whole else None,
            x=x,
            y=y,
            feature_names=FEATURES,
            class_names=classes,
            options=options,
            provenance=provenance,
            checks=[
                Check(name="benchmark", outcome="passed" if is_whole else "noted", detail=detail)
            ],
        )


def cached_path() -> Path:
    """Where the downloaded set lies."""
    return cache_folder() / f"openml-{OPENML_ID}.arff"


def fetch_openml(
    *, api: str = API, progress: Callable[[int, int | None], None] | None = None
) -> dict[str, Any]:
    """Download OpenML 42468 into the cache, checked against the MD5 that OpenML states.

    Args:
        api: address of OpenML's data descriptions.
        progress: see `download`.

    Returns:
        The statement of what was downloaded; see `download`.

    Raises:
        DataError: unreachable, another data set, or a wrong checksum.
    """
    answer = read_json_from(f"{api}/{OPENML_ID}")
    try:
        description = answer["data_set_description"]
        name, url, md5 = description["name"], description["url"], description["md5_checksum"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{api}/{OPENML_ID} answered in an unknown form (no {error}); download the file by hand and set "
            "task.path"
        ) from error
    if name != "hls4ml_lhc_jets_hlf":
        raise DataError(
            f"OpenML {OPENML_ID} is called {name!r}; expected 'hls4ml_lhc_jets_hlf'; nothing was kept"
        )
    return download(url, cached_path(), expected_md5=md5, progress=progress)


def _read_once(path: Path, sha256: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the cached ARFF file, or what an earlier call kept of it: parsing takes about a minute.

    The parsed file bears the checksum of the file it was made from; one that is damaged is made again.
    """
    parsed = path.with_name(f"{path.stem}-{sha256[:16]}.npz")
    if parsed.is_file():
        try:
            # Opened here: numpy leaves the file open when the archive is damaged.
            with parsed.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return file["x"], file["labels"]
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
            parsed.unlink()
    x, labels = _read(path, where)
    values = x.astype(np.float32)
    with replacing(parsed) as file:
        np.savez(file, x=values, labels=labels)
    return values, labels


def _read(path: Path, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64 [n, 16] in the order of FEATURES, and labels as text [n]."""
    if path.suffix in (".parquet", ".pq"):
        from codesign.tasks.parquet import read_parquet

        table = read_parquet(path)
        columns: list[str] = [str(column) for column in table.columns]
        label_column = _label_column(columns, where)
        labels = table[label_column].astype(str).to_numpy(dtype=str)
        return table[list(FEATURES)].to_numpy(dtype=np.float64), labels
    from scipy.io import arff

    try:
        with path.open(encoding="utf-8") as file:
            records, meta = arff.loadarff(file)
    except (arff.ArffError, ValueError, StopIteration, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: {path.name} cannot be read as ARFF ({error}); expected OpenML's file; fetch it again"
        ) from error
    label_column = _label_column(meta.names(), where)
    values = np.stack([records[feature] for feature in FEATURES], axis=1)
    return values, np.char.decode(records[label_column], "utf-8")


def _label_column(columns: list[str], where: str) -> str:
    """Return the one column that is no feature, after checking that all features are there."""
    absent = [feature for feature in FEATURES if feature not in columns]
    others = [column for column in columns if column not in FEATURES]
    if absent or len(others) != 1:
        raise DataError(
            f"{where}: the file has columns {columns}; expected the 16 jet features and one label column "
            f"(absent: {absent}); is it OpenML {OPENML_ID}?"
        )
    return others[0]


TASKS.add(OpenmlJets.name, OpenmlJets())
