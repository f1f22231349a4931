"""Tasks: data with checks, a split, a label order and provenance.  One file per source.

data = load_task("jets")
scaling = fit_scaling(data)
x_train, y_train, x_test, y_test = dataset_arrays(data, scaling)
"""

from codesign.tasks._scaling import (
    InputScaling,
    dataset_arrays,
    fit_scaling,
    fold_into_dense,
    scaling_from_json,
)
from codesign.tasks.base import (
    TASKS,
    Check,
    Events,
    Task,
    TaskData,
    build_task_data,
    load_task,
    require_one_benchmark,
)

__all__ = [
    "TASKS",
    "Check",
    "Events",
    "InputScaling",
    "Task",
    "TaskData",
    "build_task_data",
    "dataset_arrays",
    "fit_scaling",
    "fold_into_dense",
    "load_task",
    "require_one_benchmark",
    "scaling_from_json",
]
