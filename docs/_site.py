"""Hook of MkDocs: the page of all keys is made from the models that check them, at every build."""

from typing import Any

from mkdocs.structure.files import File, Files

from codesign.schema import reference_page


def on_files(files: Files, config: Any) -> Files:
    """Add keys.md to the pages."""
    files.append(File.generated(config, "keys.md", content=reference_page()))
    return files
