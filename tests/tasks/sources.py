"""Tiny files in the formats of every source, filled with seeded numbers."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from codesign.tasks.openml import FEATURES

N_ROWS = 60
HDF5_CLASSES = ("g", "q", "w", "z", "t")
OPENML_CLASSES = ("g", "q", "t", "w", "z")


def jets(n_rows: int = N_ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return x float64 [n, 16] (exact in float32) and y [n], every class equally often."""
    generator = np.random.default_rng(seed)
    x = generator.normal(3.0, 2.0, (n_rows, 16)).astype(np.float32).astype(np.float64)
    return x, generator.permutation(np.arange(n_rows) % 5)


def write_arff(path: Path, n_rows: int = N_ROWS) -> Path:
    """Write OpenML's form of the jets."""
    x, y = jets(n_rows)
    lines = ["% a comment", "@RELATION jets", ""]
    lines += [f"@ATTRIBUTE {name} REAL" for name in FEATURES]
    lines += ["@ATTRIBUTE class {g, q, w, z, t}", "", "@DATA"]
    lines += [
        ",".join([*(repr(v) for v in row.tolist()), OPENML_CLASSES[label]])
        for row, label in zip(x, y, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_tutorial(folder: Path, *, pickled_classes: bool = False) -> Path:
    """Write the hls4ml tutorial's folder: standardised inputs, one-hot labels."""
    folder.mkdir()
    x, y = jets()
    one_hot = np.eye(5)[y]
    np.save(folder / "X_train_val.npy", x[:45])
    np.save(folder / "y_train_val.npy", one_hot[:45])
    np.save(folder / "X_test.npy", x[45:])
    np.save(folder / "y_test.npy", one_hot[45:])
    classes = np.array(OPENML_CLASSES, dtype=object if pickled_classes else None)
    np.save(folder / "classes.npy", classes, allow_pickle=pickled_classes)
    return folder


def write_npy(folder: Path) -> Path:
    """Write a folder of arrays that are mapped into memory."""
    folder.mkdir()
    x, y = jets()
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "y.npy", y)
    return folder


def write_cernbox(path: Path, *, n_repeats: int = 3) -> Path:
    """Write CERNBox's table: structured rows, one per particle, so that jets repeat."""
    x, y = jets()
    names = ["index", "j_ptfrac", *(f"j_{name}" for name in (*FEATURES, *HDF5_CLASSES))]
    rows = np.zeros(len(x) * n_repeats, dtype=[(name, "f4") for name in names])
    for i, feature in enumerate(FEATURES):
        rows[f"j_{feature}"] = np.repeat(x[:, i], n_repeats)
    for i, label in enumerate(HDF5_CLASSES):
        rows[f"j_{label}"] = np.repeat(y == i, n_repeats)
    rows["index"] = np.arange(len(rows))
    with h5py.File(path, "w") as file:
        file["t_allpar_new"] = rows
    return path


def write_zenodo(path: Path, *, seed: int = 0, n_rows: int = N_ROWS) -> Path:
    """Write one file of the Zenodo record, with columns around the 16 features."""
    x, y = jets(n_rows, seed)
    names = ["j_ptfrac", "j_pt", *(f"j_{f}" for f in reversed(FEATURES))]
    names += [f"j_{label}" for label in HDF5_CLASSES] + ["j_undef"]
    table = np.zeros((n_rows, len(names)))
    table[:, 2:18] = x[:, ::-1]
    table[:, 18:23] = np.eye(5)[y]
    particles = np.random.default_rng(seed).normal(size=(n_rows, 8, 4)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["jets"] = table
        file["jetFeatureNames"] = np.array([name.encode() for name in names])
        file["jetConstituentList"] = particles
        file["particleFeatureNames"] = np.array(
            [b"j1_etarel", b"j1_pt", b"j1_phirel", b"j1_e", b"j1_pdgid"]
        )
    return path


def write_zenodo_folder(folder: Path) -> Path:
    """Write the folders train and val."""
    for part, seeds in (("train", (0, 1)), ("val", (2,))):
        (folder / part).mkdir(parents=True)
        for seed in seeds:
            write_zenodo(folder / part / f"jets_{seed}.h5", seed=seed)
    return folder


def write_npz(path: Path) -> Path:
    """Write one table with names."""
    x, y = jets()
    names = {"feature_names": np.array(FEATURES), "class_names": np.array(OPENML_CLASSES)}
    np.savez(path, x=x, y=y, **names)
    return path


def frame() -> pd.DataFrame:
    """A table with text labels."""
    x, y = jets()
    table = pd.DataFrame(x, columns=list(FEATURES))
    table["label"] = np.array(OPENML_CLASSES)[y]
    return table


def write_csv(path: Path) -> Path:
    """Write the table as csv."""
    frame().to_csv(path, index=False)
    return path


def write_parquet(path: Path) -> Path:
    """Write the table as parquet."""
    frame().to_parquet(path, engine="pyarrow", index=False)
    return path


def write_adc2021(folder: Path, n: int = 200) -> dict[str, object]:
    """Write a background and a signal file of ADC2021; return the options that read them."""
    folder.mkdir()
    generator = np.random.default_rng(3)
    paths = {}
    for name, scale in (("background", 20.0), ("h_4l", 60.0)):
        objects = np.zeros((n, 19, 4), dtype=np.float64)
        objects[:, :, 0] = -np.sort(-generator.exponential(scale, (n, 19)), axis=1)
        objects[:, :, 1:3] = generator.uniform(-3, 3, (n, 19, 2))
        objects[:, :, 3] = np.arange(19)
        paths[name] = folder / f"{name}.h5"
        with h5py.File(paths[name], "w") as file:
            file["Particles"] = objects
    return {"path": paths["background"], "signals": {"h_4l": paths["h_4l"]}}


def write_hdf5(path: Path) -> Path:
    """Write a plain HDF5 file."""
    x, y = jets()
    with h5py.File(path, "w") as file:
        file["X"], file["Y"] = x, y
        file["values"] = np.stack([x[:, 0] * 2, x[:, 1]], axis=1)
        file["weights"] = np.arange(len(x)) % 4 + 1.0
    return path


def write_root(path: Path) -> Path:
    """Write a tree of flat branches; skips where uproot is not installed."""
    uproot = pytest.importorskip("uproot")
    x, y = jets()
    with uproot.recreate(path) as file:
        columns = {**{f"v{i}": x[:, i] for i in range(4)}, "label": (y + 10).astype(np.int32)}
        tree = file.mktree("events", {name: values.dtype for name, values in columns.items()})
        tree.extend(columns)
    return path
