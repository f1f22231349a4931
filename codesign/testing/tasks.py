"""What every source of data promises: types, digests, checks, scaling, limits, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign.errors import ConfigError, DataError
from codesign.tasks import TaskData, dataset_arrays, fit_scaling, load_task

#: A task's name, the options that it was loaded with, and what it loaded.
Loaded = tuple[str, Mapping[str, Any], TaskData]


class TaskContract:
    """Tests of one task; the fixture `loaded` gives it, loaded from a file of a few rows."""

    def test_values_have_the_promised_types_and_shapes(self, loaded: Loaded) -> None:
        name, _, data = loaded
        assert data.name == name
        for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
            assert x.dtype == np.float32
            assert len(x) == len(y) > 0
            assert x.shape[1:] == data.input_shape and x.shape[-1] == data.n_features
            assert np.isfinite(x).all() and np.isfinite(y).all()
            if data.target.is_one_class_label:
                assert y.dtype == np.int64 and y.ndim == 1
            else:
                assert y.dtype == np.float32 and y.shape[1] == data.target.n_columns
            for index, head in enumerate(data.target.heads):
                truth = data.target.truth(index, y, x)
                if head.kind in ("classes", "binary"):
                    assert truth.min() >= 0 and truth.max() < len(head.names)
            assert not x.flags.writeable and not y.flags.writeable

    def test_loading_twice_gives_the_same_digest(self, loaded: Loaded) -> None:
        name, options, data = loaded
        assert load_task(name, options).digest == data.digest

    def test_what_was_checked_is_recorded_as_json(self, loaded: Loaded) -> None:
        _, _, data = loaded
        names = {check.name for check in data.checks}
        assert {"finite", "constant_features", "duplicate_features"} <= names
        assert any(name == "classes" or name.startswith("values_") for name in names)
        assert {check.outcome for check in data.checks} <= {"passed", "noted"}
        assert json.loads(json.dumps(data.summary()))["digest"] == data.digest

    def test_scaled_training_inputs_have_mean_zero_and_deviation_one(self, loaded: Loaded) -> None:
        _, _, data = loaded
        scaling = fit_scaling(data)
        x_train, _, x_test, _ = dataset_arrays(data, scaling)
        flat = x_train.reshape(-1, data.n_features).astype(np.float64)
        varies = ~np.isin(data.feature_names, scaling.constant_features)
        # float32 storage of scaled values of order 10: a mean of n of them is exact to about 1e-6
        np.testing.assert_allclose(flat.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(flat.std(axis=0)[varies], 1.0, atol=1e-4)
        assert x_train.flags.writeable and x_test.dtype == np.float32

    def test_a_wanted_label_order_changes_the_indices_and_nothing_else(
        self, loaded: Loaded
    ) -> None:
        import pytest

        name, options, data = loaded
        if not data.target.is_one_class_label:
            with pytest.raises(ConfigError, match="label order"):
                load_task(name, {**options, "class_names": ["b", "a"]})
            return
        reversed_names = tuple(reversed(data.class_names))
        other = load_task(name, {**options, "class_names": reversed_names})
        assert other.class_names == reversed_names
        for ours, theirs in ((data.y_train, other.y_train), (data.y_test, other.y_test)):
            assert (np.array(data.class_names)[ours] == np.array(reversed_names)[theirs]).all()
        assert (data.x_test == other.x_test).all()

    def test_limits_keep_the_first_rows_and_change_the_benchmark(self, loaded: Loaded) -> None:
        name, options, data = loaded
        few = load_task(name, {**options, "n_train_max": len(data.y_train) - 1})
        assert (few.x_train == data.x_train[:-1]).all()
        assert (few.x_test == data.x_test).all()
        small = load_task(name, {**options, "n_test_max": len(data.y_test) - 1})
        assert small.benchmark != data.benchmark, "another test set is another benchmark"

    def test_an_unknown_option_is_refused_with_its_key_path(self, loaded: Loaded) -> None:
        import pytest

        name, options, _ = loaded
        with pytest.raises(ConfigError, match=rf"task\.{name}: unknown key 'colour'"):
            load_task(name, {**options, "colour": "red"})

    def test_an_unknown_feature_is_refused_and_a_known_one_selected(self, loaded: Loaded) -> None:
        import pytest

        name, options, data = loaded
        wanted = (data.feature_names[2], data.feature_names[0])
        chosen = load_task(name, {**options, "features": wanted})
        assert chosen.feature_names == wanted
        assert (chosen.x_train == data.x_train[..., [2, 0]]).all()
        with pytest.raises(DataError, match="feature"):
            load_task(name, {**options, "features": ["no_such_feature"]})
