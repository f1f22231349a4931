"""Downloads: checked, cached, never half-written.  A server on this machine plays OpenML."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codesign.errors import DataError
from codesign.tasks import load_task, openml
from codesign.tasks._download import download, sha256_of, statement_path, verify_cached
from tests.tasks import sources


class Site:
    """Pages of a small web server: path to (body, length it claims)."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, int]] = {}
        self.address = ""

    def put(self, path: str, body: bytes, *, claimed_length: int | None = None) -> str:
        self.pages[path] = (body, len(body) if claimed_length is None else claimed_length)
        return self.address + path


@pytest.fixture
def site() -> Iterator[Site]:
    pages = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in pages.pages:
                self.send_error(404)
                return
            body, length = pages.pages[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def openml_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A server with a data set of the right name, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = sources.write_arff(tmp_path / "served.arff").read_bytes()
    url = site.put("/jets.arff", body)
    describe(site, url=url, md5_checksum=hashlib.md5(body).hexdigest())
    return site


def describe(site: Site, **changes: str) -> None:
    description = {"name": "hls4ml_lhc_jets_hlf", **changes}
    answer = json.dumps({"data_set_description": description}).encode()
    site.put(f"/api/{openml.OPENML_ID}", answer)


def test_a_fetched_set_is_cached_checksummed_and_loads(openml_site: Site) -> None:
    seen: list[tuple[int, int | None]] = []
    statement = openml.fetch_openml(
        api=openml_site.address + "/api", progress=lambda done, total: seen.append((done, total))
    )
    path = openml.cached_path()
    assert statement["sha256"] == sha256_of(path)
    assert seen[-1] == (statement["n_bytes"], statement["n_bytes"])
    assert verify_cached(path, command="fetch") == statement
    data = load_task("openml")
    assert data.provenance["sha256"] == statement["sha256"]
    assert data.provenance["url"] == openml_site.address + "/jets.arff"
    parsed = f"{path.stem}-{statement['sha256'][:16]}.npz"
    assert {p.name for p in path.parent.iterdir()} == {path.name, statement_path(path).name, parsed}


def test_the_parsed_set_is_read_the_second_time_and_made_again_when_damaged(
    openml_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    openml.fetch_openml(api=openml_site.address + "/api")
    first = load_task("openml")
    (parsed,) = openml.cached_path().parent.glob("*.npz")
    parsed.write_bytes(parsed.read_bytes()[:100])
    assert load_task("openml").digest == first.digest
    monkeypatch.setattr(openml, "_read", None)  # not called any more
    assert load_task("openml").digest == first.digest


def test_a_damaged_cache_is_noticed(openml_site: Site) -> None:
    openml.fetch_openml(api=openml_site.address + "/api")
    with openml.cached_path().open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="it is damaged; run `codesign data fetch openml` again"):
        load_task("openml")


def test_another_content_than_the_publisher_states_is_not_kept(openml_site: Site) -> None:
    describe(openml_site, url=openml_site.address + "/jets.arff", md5_checksum="0" * 32)
    with pytest.raises(DataError, match="its publisher states 000.*nothing was kept"):
        openml.fetch_openml(api=openml_site.address + "/api")
    assert list(openml.cached_path().parent.iterdir()) == []


def test_a_failed_download_leaves_the_cached_file_as_it_was(openml_site: Site) -> None:
    openml.fetch_openml(api=openml_site.address + "/api")
    before = openml.cached_path().read_bytes()
    describe(openml_site, url=openml_site.address + "/jets.arff", md5_checksum="0" * 32)
    with pytest.raises(DataError):
        openml.fetch_openml(api=openml_site.address + "/api")
    assert openml.cached_path().read_bytes() == before


def test_another_data_set_under_the_number_is_refused(openml_site: Site) -> None:
    openml_site.put(
        f"/api/{openml.OPENML_ID}",
        b'{"data_set_description": {"name": "iris", "url": "", "md5_checksum": ""}}',
    )
    with pytest.raises(DataError, match="is called 'iris'"):
        openml.fetch_openml(api=openml_site.address + "/api")


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"data_set_description": {"name": "x"}}'])
def test_an_answer_of_unknown_form_is_refused(openml_site: Site, answer: bytes) -> None:
    openml_site.put(f"/api/{openml.OPENML_ID}", answer)
    with pytest.raises(DataError, match="answered in an unknown form"):
        openml.fetch_openml(api=openml_site.address + "/api")


def test_an_answer_that_is_no_json_is_refused(openml_site: Site) -> None:
    openml_site.put(f"/api/{openml.OPENML_ID}", b"<html>busy</html>")
    with pytest.raises(DataError, match="not JSON"):
        openml.fetch_openml(api=openml_site.address + "/api")


def test_a_download_cut_short_is_not_kept(site: Site, tmp_path: Path) -> None:
    url = site.put("/file", b"half", claimed_length=8)
    with pytest.raises(DataError, match="cut short"):
        download(url, tmp_path / "cache" / "file")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_absent_page_and_an_unreachable_server_are_said(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be downloaded.*Not Found"):
        download(site.address + "/absent", tmp_path / "file")
    with pytest.raises(DataError, match="cannot be downloaded.*check the network"):
        download("http://127.0.0.1:9/closed", tmp_path / "file")


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "file:///etc/hostname", "ftp://example.org/x", "x"]
)
def test_only_https_is_spoken_to_other_machines(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not an https address"):
        download(url, tmp_path / "file")


@pytest.mark.network
@pytest.mark.slow
def test_openml_still_serves_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    openml.fetch_openml()
    data = load_task("openml", {"split": "sklearn"})
    assert data.benchmark == "openml-42468" and len(data.y_test) == 166_000
