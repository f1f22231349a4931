"""Templates: how genes become networks.  One file per family of architectures."""

from codesign.registry import Registry
from codesign.space.templates.base import Template

TEMPLATES: Registry[type[Template]] = Registry(
    kind="space template", package="codesign.space.templates"
)
