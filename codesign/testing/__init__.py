"""Contracts: what every layer, strategy, task, device and prediction method promises, as test classes.

Codesign's own tests are subclasses of these, and so are yours: derive a class whose name starts with
`Test` in a module that pytest collects, and say what to test with a fixture.  A layer of your own:

    import pytest
    from codesign.layers import LAYERS
    from codesign.testing.layers import LayerContract

    class TestSoftsign(LayerContract):
        @pytest.fixture
        def layer(self):
            return LAYERS.get("softsign")

pytest itself is imported by the tests only, so the package does not depend on it.
"""
