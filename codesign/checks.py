"""Read a study's YAML, and refuse whatever is wrong in it before data or anything heavy is loaded.

What needs the data is refused by the stage "prepare", before the study has a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codesign.config import parse, read_yaml
from codesign.errors import CodesignError, ConfigError, unknown_name
from codesign.export.backends import BACKENDS
from codesign.export.templates import check_firmware_name
from codesign.hardware.device import Device, load_budget, load_device
from codesign.predictor.base import METHODS
from codesign.registry import listed
from codesign.space import read_space
from codesign.study import StudyConfig
from codesign.tasks import TASKS
from codesign.validate.exported import FORMS

#: Options of tasks that are paths.
_PATHS = ("path", "test_path")


def load_config(path: Path) -> StudyConfig:
    """Read a study's YAML; relative paths in it are taken from its folder.

    Raises:
        ConfigError: the first wrong key, value or name.
    """
    config = parse(StudyConfig, read_yaml(path), where=path.name)
    moved: dict[str, Any] = {}
    options = {
        key: str((path.parent / Path(value).expanduser()).resolve())
        for key, value in config.task.options.items()
        if key in _PATHS and isinstance(value, str)
    }
    if options:
        moved["task"] = config.task.model_copy(update={"options": config.task.options | options})
    for key in ("space", "device", "budget"):
        value = getattr(config, key)
        if value.endswith((".yaml", ".yml")) and not Path(value).is_absolute():
            moved[key] = str((path.parent / value).resolve())
    if config.network is not None:
        files = {
            key: str((path.parent / str(value)).resolve())
            for key in ("file", "inputs", "outputs")
            if (value := getattr(config.network, key)) is not None
        }
        moved["network"] = config.network.model_copy(update=files)
    start_from = config.labels.start_from
    if start_from not in (None, "shipped"):
        absolute = str((path.parent / start_from).resolve())
        moved["labels"] = config.labels.model_copy(update={"start_from": absolute})
    config = config.model_copy(update=moved)
    check_choices(config, where=path.name)
    return config


def check_choices(config: StudyConfig, *, where: str) -> None:
    """Refuse a name of nothing, a file that is wrong, and options that do not fit what they belong to.

    Args:
        config: the configuration.
        where: the file that it came from, for the message.

    Raises:
        ConfigError: which key, and the nearest name that exists.
    """
    with told(f"{where}: device"):
        device = load_device(config.device)
    with told(f"{where}: budget"):
        load_budget(config.budget)
    if config.network is None:
        with told(f"{where}: space"):
            read_space(config.space)
    else:
        _check_files(config, where)
    if config.has_task:
        _check_task(config, where)
    _check_labels(config, where)
    with told(f"{where}: search.strategy"):
        strategies = listed("codesign.search.strategies")
        if config.search.strategy not in strategies:
            raise ConfigError(unknown_name("search strategy", config.search.strategy, strategies))
    _check_export(config, device, where)


@contextmanager
def told(key: str) -> Iterator[None]:
    """Say of which key a refusal is."""
    try:
        yield
    except CodesignError as error:
        raise ConfigError(f"{key}: {error}") from error


def _check_task(config: StudyConfig, where: str) -> None:
    with told(f"{where}: task.source"):
        task = TASKS.get(config.task.source)
    parse(task.options_type, config.task.options, where=f"{where}: task.options")
    for key in _PATHS:
        value = config.task.options.get(key)
        if value is not None and not Path(value).expanduser().exists():
            raise ConfigError(
                f"{where}: task.options.{key}: {value} does not exist; check the path"
            )


def _check_files(config: StudyConfig, where: str) -> None:
    for key in ("file", "inputs", "outputs"):
        value = getattr(config.network, key)
        if value is not None and not Path(value).exists():
            raise ConfigError(f"{where}: network.{key}: {value} does not exist; check the path")


def _check_labels(config: StudyConfig, where: str) -> None:
    with told(f"{where}: labels.predictor"):
        if config.labels.predictor != "auto":
            METHODS.get(config.labels.predictor)
    start_from = config.labels.start_from
    if start_from not in (None, "shipped") and not Path(str(start_from)).is_file():
        raise ConfigError(
            f"{where}: labels.start_from: {start_from} does not exist; give a checkpoint, or 'shipped'"
        )


def _check_export(config: StudyConfig, device: Device, where: str) -> None:
    with told(f"{where}: export.backends"):
        for name in config.export.backends:
            BACKENDS.get(name).check_part(device.part)
    with told(f"{where}: export.name"):
        if config.export.name is not None:
            check_firmware_name(config.export.name)
    with told(f"{where}: export.later"):
        forms = [*FORMS, *(f"hls4ml_{name}" for name in config.export.backends)]
        for name in config.export.later:
            if name not in forms:
                raise ConfigError(unknown_name("form", name, forms))
