"""The error tree: one root for the command line, the fitting built-in for everyone else."""

import inspect

import pytest

from codesign import errors

RAISED = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.CodesignError) and error is not errors.CodesignError
]


@pytest.mark.parametrize("error", RAISED)
def test_every_error_is_a_codesign_error_and_a_fitting_built_in(error: type[Exception]) -> None:
    assert issubclass(error, ValueError | RuntimeError | OSError)
    assert error.__doc__


def test_the_module_lists_every_error() -> None:
    assert errors.__doc__ is not None
    for error in RAISED:
        assert error.__name__ in errors.__doc__


def test_a_warning_is_no_error() -> None:
    assert issubclass(errors.CodesignWarning, UserWarning)
    assert not issubclass(errors.CodesignWarning, errors.CodesignError)
