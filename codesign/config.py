"""YAML in, frozen values out: the one place where configuration is read and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from codesign.errors import ConfigError, unknown_name
from codesign.resources import data_root

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configuration: unknown keys fail, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def read_yaml(path: Path) -> Any:
    """Read a YAML file, safely.

    Raises:
        ConfigError: the file is missing, unreadable or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {detail}") from error


def parse(model: type[Model], value: Any, *, where: str) -> Model:
    """Check a mapping against a configuration model.

    Args:
        model: the model.
        value: what the YAML held.
        where: file (and key) that the value came from, for the message.

    Raises:
        ConfigError: the first wrong key, with its path, what was expected and what was found.
    """
    if not isinstance(value, dict):
        raise ConfigError(
            f"{where}: expected a mapping of keys to values, got {type(value).__name__}"
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # a misspelt key is told before the one that is missing because of it
        known = error.errors()
        first = next((e for e in known if e["type"] == "extra_forbidden"), known[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            above = "".join(f"{part}: " for part in key.split(".")[:-1])
            misspelt = unknown_name("key", first["loc"][-1], _known_keys(model, first["loc"]))
            raise ConfigError(f"{where}: {above}{misspelt}") from error
        others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        above = f"{where}: {key}: " if key else f"{where}: "
        if first["type"] == "value_error":  # of our own, which say what was found and what to do
            raise ConfigError(f"{above}{first['ctx']['error']}{others}") from error
        if first["type"] == "literal_error":
            offered = re.findall(r"'((?:[^'\\]|\\.)*)'", first["ctx"]["expected"])
            key = key.removesuffix(".[key]")
            wrong = unknown_name("value", first["input"], offered) if offered else first["msg"]
            raise ConfigError(f"{where}: {key}: {wrong}{others}") from error
        found = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise ConfigError(f"{above}{first['msg']}{found}{others}; correct it") from error


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that could stand at a location, through optional sections and lists of sections."""
    current: type[BaseModel] | None = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue  # of a list, whose elements were taken for it
        field = current.model_fields.get(part) if current is not None else None
        current = _section_in(field.annotation) if field is not None else None
    return list(current.model_fields) if current is not None else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def load(model: type[Model], reference: str | Path, *, kind: str) -> tuple[Model, Path]:
    """Read a configuration by path, or by name from `constraints/<kind>/`.

    Args:
        model: the model.
        reference: "xcvu13p" (shipped) or a path that ends in .yaml or .yml.
        kind: "devices", "budgets" or "spaces".

    Returns:
        The checked value and the file it came from.

    Raises:
        ConfigError: no such name or file, or a wrong value.
    """
    text = str(reference)
    if text.endswith((".yaml", ".yml")):
        path = Path(text).expanduser()
    else:
        folder = data_root("constraints") / kind
        path = folder / f"{text}.yaml"
        names = [p.stem for p in folder.glob("*.yaml")]
        if text not in names:
            raise ConfigError(
                unknown_name(kind[:-1], text, names) + "; or give the path of a YAML file"
            )
    return parse(model, read_yaml(path), where=str(path.name)), path
