"""What every test may rely on."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_coefficients_of_whoever_runs_the_tests(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield
