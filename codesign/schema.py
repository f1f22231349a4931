"""Every key of every YAML, from the models that check them: for editors (JSON Schema) and for people.

The words are those of the models' docstrings, so they cannot be older than the code.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from codesign.errors import ConfigError, unknown_name

#: Kinds of YAML: module and name of the model, and where such files are named.
MODELS: Final = {
    "study": ("codesign.study", "StudyConfig", "codesign run STUDY.yaml"),
    "space": ("codesign.space.space", "SpaceConfig", "`space:` of a study"),
    "device": ("codesign.hardware.device", "Device", "`device:` of a study"),
    "budget": ("codesign.hardware.device", "Budget", "`budget:` of a study"),
}

_ATTRIBUTES = re.compile(r"^Attributes:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^    (\w[\w, ]*): (.*?)(?=^    \w|\Z)", re.MULTILINE | re.DOTALL)


def model_of(kind: str) -> type[BaseModel]:
    """Return the model that checks YAML files of a kind.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in MODELS:
        raise ConfigError(unknown_name("kind of file", kind, MODELS))
    module, name, _ = MODELS[kind]
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    return model


def attribute_texts(docstring: str | None) -> dict[str, str]:
    """Return what a Google-style docstring says of each attribute, each on one line."""
    section = _ATTRIBUTES.search(inspect.cleandoc(docstring or ""))
    texts: dict[str, str] = {}
    for names, text in _ENTRY.findall(section[1]) if section else ():
        for name in names.split(","):
            texts[name.strip()] = " ".join(text.split())
    return texts


class _Described(GenerateJsonSchema):
    """JSON Schema whose descriptions come from the models' docstrings."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        found = super().model_schema(schema)
        model = schema["cls"]
        texts: dict[str, str] = {}
        for parent in reversed(model.__mro__):
            texts |= attribute_texts(parent.__dict__.get("__doc__"))
        found["description"] = (model.__doc__ or "").strip().partition("\n")[0]
        for name, field in model.model_fields.items():
            entry = found.get("properties", {}).get(field.alias or name)
            if entry is not None and name in texts:
                entry["description"] = texts[name]
        return found


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind of YAML file, for editors that complete and check.

    Raises:
        ConfigError: an unknown kind.
    """
    return model_of(kind).model_json_schema(schema_generator=_Described)


def reference_page() -> str:
    """Return a Markdown page with every key of every kind of YAML file."""
    from codesign.space.templates import TEMPLATES
    from codesign.tasks import TASKS
    from codesign.tasks._options import TaskOptions
    from codesign.tasks.target import HeadOptions

    lines = [
        "# Every key of every YAML",
        "",
        "Made from the models that check the files. `codesign schema KIND` prints the same as JSON Schema.",
    ]
    for kind, (_, _, used) in MODELS.items():
        schema = json_schema(kind)
        lines += ["", f"## {kind}", "", f"{schema['description']} Used by {used}.", ""]
        lines += _table(schema, schema.get("$defs", {}), "")
    lines += ["", "## Options of tasks", "", "The keys of `task.options` of a study."]
    owners: dict[type[BaseModel], list[str]] = {}
    tasks = sorted(TASKS, key=lambda task: task.name)
    for task in tasks:
        for owner in task.options_type.__mro__:
            if issubclass(owner, TaskOptions) and owner.__dict__.get("__annotations__"):
                owners.setdefault(owner, []).append(task.name)
    for owner, names in sorted(owners.items(), key=lambda item: -len(item[1])):
        schema = owner.model_json_schema(schema_generator=_Described)
        own = {k: v for k, v in schema["properties"].items() if k in owner.__annotations__}
        lines += ["", f"### of {', '.join(names) if len(names) < len(tasks) else 'all'}", ""]
        lines += _table({**schema, "properties": own}, schema.get("$defs", {}), "")
    lines += ["", "### of each entry of `heads`", ""]
    schema = HeadOptions.model_json_schema(schema_generator=_Described)
    lines += _table(schema, schema.get("$defs", {}), "")
    lines += ["", "## Domains of a space, by template", ""]
    for template in TEMPLATES:
        text = (template.__doc__ or "").strip().partition("\n")[0]
        domains = ", ".join(f"`{name}`" for name in template.domain_names)
        lines.append(f"- `{template.name}`: {text} Domains: {domains}.")
        if optional := ", ".join(f"`{name}`" for name in template.optional_domain_names):
            lines[-1] += f" Optional: {optional}."
    return "\n".join(lines) + "\n"


def _table(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> list[str]:
    rows = [] if prefix else ["| key | values | default | meaning |", "|---|---|---|---|"]
    required = set(schema.get("required", ()))
    for name, entry in schema.get("properties", {}).items():
        options = [_resolved(part, definitions) for part in entry.get("anyOf", [entry])]
        nested = next((part for part in options if "properties" in part), None)
        default = "required" if name in required else f"`{_default(entry)}`"
        text = entry.get("description") or (nested or {}).get("description", "")
        values = " or ".join(dict.fromkeys(_values(part, definitions) for part in options))
        rows.append(f"| `{prefix}{name}` | {values} | {default} | {_escape(text)} |")
        if nested is not None:
            rows += _table(nested, definitions, f"{prefix}{name}.")
    return rows


def _resolved(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else part


def _default(entry: dict[str, Any]) -> str:
    if "default" not in entry:
        return "empty"  # made by a factory: a mapping without entries
    value = entry["default"]
    return "see below" if isinstance(value, dict) else "none" if value is None else str(value)


def _values(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "properties" in part:
        return "section"
    if "enum" in part or "const" in part:
        return ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    kind = str(part.get("type", "any"))
    if kind == "array":
        inner = part.get("items", {})
        inner_parts = inner.get("anyOf", [inner]) if isinstance(inner, dict) else [{}]
        found = [_values(_resolved(p, definitions), definitions) for p in inner_parts]
        return "list of " + " or ".join(dict.fromkeys(found))
    bounds = [
        f"{sign} {part[key]:g}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in part
    ]
    words = {"number": "number", "integer": "integer", "string": "text", "null": "nothing"}
    words |= {"boolean": "true or false", "object": "mapping"}
    return " ".join([words.get(kind, kind), *bounds])


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
