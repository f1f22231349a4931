"""A plan is deterministic, stays in its folder, and is written whole or not at all."""

import os

import pytest

from codesign.errors import ExportError
from codesign.export.plan import ProjectPlan


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../up",
        "a/../../b",
        "a//b",
        "",
        "a\\b",
        "a b",
        "-rf",
        "a/;rm",
        "a/.hidden",
        "a\nb",
        "a\n",
    ],
)
def test_names_that_leave_the_folder_or_confuse_tools_are_refused(name):
    with pytest.raises(ExportError, match="no file name for a project"):
        ProjectPlan(files={name: b""})


def test_order_of_files_does_not_change_the_digest_but_content_and_mode_do():
    plan = ProjectPlan(files={"b": b"2", "a": b"1"})
    assert list(plan.files) == ["a", "b"]
    assert plan.digest == ProjectPlan(files={"a": b"1", "b": b"2"}).digest
    assert plan.digest != ProjectPlan(files={"a": b"1", "b": b"3"}).digest
    assert plan.digest != ProjectPlan(files=plan.files, executables=frozenset({"a"})).digest


def test_a_written_plan_reads_back_equal(tmp_path):
    plan = ProjectPlan(
        files={"a.txt": b"1", "sub/run.sh": b"#!/bin/sh\n"}, executables=frozenset({"sub/run.sh"})
    )
    plan.write(tmp_path / "out")
    again = ProjectPlan.read(tmp_path / "out")
    assert again == plan and again.digest == plan.digest
    assert os.access(tmp_path / "out/sub/run.sh", os.X_OK)


def test_writing_replaces_the_folder_as_a_whole(tmp_path):
    ProjectPlan(files={"old": b""}).write(tmp_path / "out")
    ProjectPlan(files={"new": b""}).write(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    folder = tmp_path / "out"
    ProjectPlan(files={"old": b"kept"}).write(folder)
    clash = ProjectPlan(files={"a": b"", "a/b": b""})  # a is both a file and a folder
    with pytest.raises(OSError):
        clash.write(folder)
    assert (folder / "old").read_bytes() == b"kept"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_merging_refuses_to_write_a_file_twice():
    plan = ProjectPlan(files={"a/b": b""})
    assert list(plan.merged(plan, below="c").files) == ["a/b", "c/a/b"]
    with pytest.raises(ExportError, match="written twice"):
        plan.merged(plan)
