"""`--option KEY=VALUE`: a task's options on the command line, as `task.options` in a study."""

from __future__ import annotations

from typing import Any

import typer

OPTION_OPTION = typer.Option(
    [], "--option", help="A task option as KEY=VALUE (value in YAML); may be given several times."
)


def task_options(pairs: list[str], *, name: str = "--option") -> dict[str, Any]:
    """Read KEY=VALUE pairs, values as YAML.

    Raises:
        ConfigError: a pair has no key or no equals sign, or its value is no YAML.
    """
    import yaml

    from codesign.errors import ConfigError

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigError(f"{name} is {pair!r}; expected KEY=VALUE, such as seed=7")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{name} {key}: {value!r} is no YAML value; quote it") from error
    return options
