"""Downloads: only on demand, checksummed, cached, never half-written."""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from codesign.errors import DataError
from codesign.files import replacing, write_atomically

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
#: Hosts that may be reached without TLS: this machine, for tests.
_LOOPBACK = ("127.0.0.1", "localhost")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_from(url: str) -> Any:
    """Fetch a small JSON document.

    Raises:
        DataError: it cannot be fetched or read.
    """
    try:
        with _open(url) as response:
            return json.loads(response.read(_BLOCK_BYTES))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _download_error(url, error) from error
    except ValueError as error:
        raise DataError(
            f"{url} answered with something that is not JSON; try again later"
        ) from error


def download(
    url: str,
    destination: Path,
    *,
    expected_md5: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Download a file into the cache, with a statement of what it is beside it (`NAME.json`).

    Args:
        url: an https address.
        destination: where to put the file; replaced only once complete and checked.
        expected_md5: what the publisher says; checked when given.
        progress: called with bytes so far and the total (None when the server does not say).

    Returns:
        The statement: url, n_bytes, sha256, md5.

    Raises:
        DataError: unreachable, cut short, or another content than the publisher states.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    n_bytes = 0
    try:
        with replacing(destination) as file, _open(url) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                md5.update(block)
                sha256.update(block)
                n_bytes += len(block)
                if progress:
                    progress(n_bytes, total)
            if total is not None and n_bytes != total:
                raise DataError(
                    f"{url} was cut short: {n_bytes} of {total} bytes; run the command again"
                )
            if expected_md5 and md5.hexdigest() != expected_md5.lower():
                raise DataError(
                    f"{url} has MD5 {md5.hexdigest()}, but its publisher states {expected_md5}; nothing was kept; "
                    "run the command again, and report it if it persists"
                )
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _download_error(url, error) from error
    statement = {
        "url": url,
        "n_bytes": n_bytes,
        "sha256": sha256.hexdigest(),
        "md5": md5.hexdigest(),
    }
    write_atomically(statement_path(destination), json.dumps(statement, indent=2) + "\n")
    return statement


def statement_path(path: Path) -> Path:
    """Where the statement of a cached file lies."""
    return path.with_name(path.name + ".json")


def verify_cached(path: Path, *, command: str) -> dict[str, Any]:
    """Return the statement of a cached file after checking the file against it.

    Args:
        path: the cached file.
        command: what fetches it, for messages.

    Raises:
        DataError: it is not there, or has changed since it was downloaded.
    """
    if not path.is_file() or not statement_path(path).is_file():
        raise DataError(
            f"{path.name} is not in the cache ({path.parent}); run `{command}` first, or give a path"
        )
    statement: dict[str, Any] = json.loads(statement_path(path).read_text(encoding="utf-8"))
    found = sha256_of(path)
    if found != statement["sha256"]:
        raise DataError(
            f"{path} has SHA-256 {found[:12]}..., but had {statement['sha256'][:12]}... when downloaded: it is "
            f"damaged; run `{command}` again"
        )
    return statement


def _open(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DataError(
            f"{url!r} is not an https address; expected https; refuse to download over it"
        )
    request = urllib.request.Request(url, headers={"User-Agent": "codesign"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def _download_error(url: str, error: Exception) -> DataError:
    reason = getattr(error, "reason", error)
    return DataError(
        f"{url} cannot be downloaded ({reason}); check the network, or download it by hand and give a path"
    )
