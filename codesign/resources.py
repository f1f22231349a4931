"""Where the data that ships with codesign lies: constraints, templates, data sets, coefficients."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_root(name: str) -> Path:
    """Return the folder `constraints` or `hls_templates`, in a checkout or in an installed wheel.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for root in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if root.is_dir():
            return root
    raise FileNotFoundError(f"{name}/ is missing from this installation of codesign; reinstall it")
