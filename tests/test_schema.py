"""The keys of every YAML, told to editors and people, are those that the models check."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from codesign.cli import build_app
from codesign.errors import ConfigError
from codesign.resources import data_root
from codesign.schema import MODELS, json_schema, model_of, reference_page
from codesign.tasks import TASKS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHIPPED = [
    (kind[:-1], path)
    for kind in ("devices", "budgets", "spaces")
    for path in sorted((data_root("constraints") / kind).glob("*.yaml"))
] + [("study", path) for path in sorted(EXAMPLES.glob("*.yaml"))]


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda value: getattr(value, "stem", value))
def test_every_shipped_file_satisfies_its_schema(kind: str, path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json_schema(kind))


@pytest.mark.parametrize("kind", MODELS)
def test_a_schema_refuses_what_the_model_refuses(kind: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"no_such_key": 1}, json_schema(kind))


def test_the_page_has_every_key_of_every_model() -> None:
    page = reference_page()
    for kind in MODELS:
        section = page.partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
        for name, field in model_of(kind).model_fields.items():
            assert f"| `{field.alias or name}` |" in section, (kind, name)
    assert "| `train.n_splits` | integer ≥ 1 ≤ 8 |" in page
    options = page.partition("\n## Options of tasks\n")[2].partition("\n## ")[0]
    for task in TASKS:
        for name in task.options_type.model_fields:
            assert f"| `{name}` |" in options, (task.name, name)
    assert "the label column, or several one-hot columns" in options  # told by a parent's docstring
    assert "`mlp`" in page and "`pruned_fraction`" in page


def test_the_verb_prints_a_schema_or_the_page() -> None:
    runner, app = CliRunner(), build_app()
    printed = json.loads(runner.invoke(app, ["schema", "budget"]).stdout)
    assert printed["properties"]["latency_ns"]["description"].startswith(
        "most time from first input"
    )
    assert runner.invoke(app, ["schema"]).stdout.strip() == reference_page().strip()


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'budget'"):
        json_schema("budgit")
