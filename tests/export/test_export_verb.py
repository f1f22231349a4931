"""`codesign export` says what is missing before it starts."""

import pytest
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import DesignError, ExportError, StudyError


def run(*arguments):
    return CliRunner().invoke(build_app(), ["export", *map(str, arguments)])


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    result = run(tmp_path)
    assert isinstance(result.exception, StudyError)


def test_an_unknown_back_end_is_named_with_the_nearest(tmp_path):
    result = run(tmp_path, "--backend", "vites")
    assert isinstance(result.exception, DesignError)
    assert "did you mean 'vitis'" in str(result.exception)


def test_an_operator_set_that_is_not_written_is_refused(tmp_path):
    result = run(tmp_path, "--onnx-opset", "13")
    assert isinstance(result.exception, ExportError)
    assert "choose one of 19, 21" in str(result.exception)


@pytest.mark.parametrize("option", ["--onnx-opset", "--candidate", "--backend", "--json"])
def test_options_are_documented(option):
    assert option in run("--help").output
