"""Files and folders that are never seen half-written: they appear whole, or not at all.

What stood there before stays until its successor is complete, whether the process is killed, the disk
is full or the content turns out wrong.  (A power cut is another matter: nothing is forced to the disk.)
`hw_models` stands alone and writes its one file, the coefficients, itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from codesign.errors import FileError

#: What the operating system says when a file cannot be written, and what to do about it.
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space",
    errno.EIO: "the disk is failing: write to another one",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
    errno.ENOTDIR: "choose a place whose parent is a folder",
    errno.EEXIST: "choose a place whose parent is a folder",
    errno.EISDIR: "choose the name of a file, not of a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in one sentence what keeps `path` from being written; other errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileError) or error.errno not in _ADVICE:
            raise
        raise FileError(
            f"{path} cannot be written ({error.strerror}); what was there before is untouched;"
            f" {_ADVICE[error.errno]}"
        ) from error


def _beside(path: Path) -> Path:
    """Return a hidden name in the same folder, so on the same disk, that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def replacing(path: Path, *, executable: bool = False) -> Iterator[BinaryIO]:
    """Open a stream whose bytes become the file `path` when the block ends without an error.

    Missing folders are made.

    Args:
        path: the file.
        executable: whether it may be run.

    Raises:
        FileError: the disk is full, or the place cannot be written.
    """
    temporary = _beside(path)
    with _explained(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                yield stream
            if executable:
                temporary.chmod(0o755)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, executable: bool = False) -> None:
    """Write a file whole or not at all; text becomes UTF-8, and missing folders are made.

    Raises:
        FileError: the disk is full, or the place cannot be written.
    """
    with replacing(path, executable=executable) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill that takes the place of `folder` when the block ends without an error.

    Raises:
        FileError: the disk is full, or the place cannot be written.
    """
    temporary = _beside(folder)
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            yield temporary
            if folder.exists():  # a folder that is not empty cannot be renamed over
                replaced = temporary.with_suffix(".old")
                folder.rename(replaced)
                temporary.rename(folder)
                shutil.rmtree(replaced)
            else:
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
