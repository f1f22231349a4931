"""Filling the templates of `hls_templates`: an undefined name is an error, names are checked."""

import functools
import re
from typing import Any

import jinja2

from codesign.errors import ExportError
from codesign.resources import data_root

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{1,60}")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_root("hls_templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Tcl, C++ and Verilog are no HTML: every name that enters them is checked instead
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
    )


def render(template: str, **context: Any) -> bytes:
    """Fill the template `hls_templates/<template>`.

    Raises:
        ExportError: the template does not exist or uses a name that `context` lacks.
    """
    try:
        return _environment().get_template(template).render(**context).encode()
    except jinja2.TemplateError as error:
        raise ExportError(
            f"template {template}: {error}; the installation or the exporter is broken"
        ) from error


def check_identifier(name: str) -> str:
    """Return `name` when it may become a C++, Tcl, Make and Verilog identifier.

    Raises:
        ExportError: it may not.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ExportError(
            f"{name!r} cannot name a project; use lower-case letters, digits and _, a letter first"
        )
    return name


def check_part(part: str) -> str:
    """Return `part` when it looks like a device part number.

    Raises:
        ExportError: it holds characters that no part number has.
    """
    if not _PART.fullmatch(part):
        raise ExportError(f"{part!r} is no device part; expected one like 'xcvu13p-flga2577-2-e'")
    return part
