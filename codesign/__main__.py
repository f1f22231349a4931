"""`python -m codesign`: the `codesign` command."""

from codesign.cli import main

main()
