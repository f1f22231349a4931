"""What every test may rely on."""

import pytest
from hypothesis import settings

from codesign.processes import limit_threads

limit_threads()  # as the command line does: threads of two test processes would wait for each other on two cores
settings.register_profile("codesign", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("codesign")


@pytest.fixture(scope="session", autouse=True)
def _no_coefficients_of_whoever_runs_the_tests(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield
