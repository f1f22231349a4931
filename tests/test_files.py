"""What is written appears whole or not at all, and what keeps it from it is said in one sentence."""

import errno
import os
import stat
from pathlib import Path

import pytest

from codesign.errors import CodesignError, FileError
from codesign.files import replacing, replacing_folder, write_atomically

IS_SUPERUSER = os.geteuid() == 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_atomically(path, "µ\n")
    assert path.read_bytes() == "µ\n".encode()
    write_atomically(path, b"\x00", executable=True)
    assert path.read_bytes() == b"\x00"
    assert path.stat().st_mode & stat.S_IXUSR
    assert names(path.parent) == ["x.txt"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("bad content"), KeyboardInterrupt()])
def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with pytest.raises(type(error)), replacing(tmp_path / "x") as stream:
        stream.write(b"half")
        raise error
    with pytest.raises(type(error)), replacing_folder(tmp_path / "d") as folder:
        (folder / "half").touch()
        raise error
    assert names(tmp_path) == ["d", "x"]
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path / "d") == ["old"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "d"
    for content in ("first", "second"):
        with replacing_folder(target) as folder:
            (folder / content).touch()
        assert names(target) == [content]
    assert names(target.parent) == ["d"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "choose a place that you may write to")],
)
def test_what_the_system_refuses_is_one_clear_sentence(
    tmp_path: Path, number: int, advice: str
) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    for write in (replacing, replacing_folder):
        with pytest.raises(FileError) as caught, write(target):
            raise OSError(number, os.strerror(number))
        assert isinstance(caught.value, CodesignError) and isinstance(caught.value, OSError)
        assert str(caught.value) == (
            f"{target} cannot be written ({os.strerror(number)}); what was there before is untouched;"
            f" {advice}"
        )
    assert names(tmp_path) == ["x"] and target.read_text() == "old"


def test_a_folder_in_the_place_of_a_file_and_the_reverse_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(FileError, match="choose the name of a file, not of a folder"):
        write_atomically(tmp_path / "d", "x")
    (tmp_path / "f").touch()
    with pytest.raises(FileError, match="choose a place whose parent is a folder"):
        write_atomically(tmp_path / "f" / "x", "x")
    assert names(tmp_path) == ["d", "f"] and names(tmp_path / "d") == []


@pytest.mark.skipif(IS_SUPERUSER, reason="a superuser may write anywhere")
def test_a_place_that_is_not_ours_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match=r"Permission denied.*that you may write to"):
            write_atomically(tmp_path / "x", "x")
    finally:
        tmp_path.chmod(0o700)


def test_errors_that_are_no_refusal_to_write_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), replacing(tmp_path / "x"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(TimeoutError), replacing(tmp_path / "x"):
        raise TimeoutError("late")


def test_files_are_written_in_one_place_only() -> None:
    root = Path(__file__).resolve().parents[1] / "codesign"
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "files.py":
            assert "mkstemp" not in text and '.tmp"' not in text and ".replace(path)" not in text, (
                f"{path}: write by way of codesign.files"
            )
