"""The `codesign` command.  One file per verb in this package; each defines `register(app)`.

A verb's module imports only typer and the standard library at its top; the work is imported inside
the function, so `codesign --help` stays fast and loads no heavy library.
"""

import importlib
import os
import pkgutil
import sys
import warnings

import typer

import codesign
from codesign.errors import CodesignError, CodesignWarning
from codesign.processes import limit_threads
from codesign.tools import missing_package


def _version(value: bool) -> None:
    if value:
        typer.echo(codesign.__version__)
        raise typer.Exit


def build_app() -> typer.Typer:
    """Collect every verb of this package into one application."""
    app = typer.Typer(
        name="codesign",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Search networks and FPGA configurations together; export the winner, proved bit-exact.",
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Print the version."
        ),
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    ) -> None:
        """Options before the verb."""

    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        if not module.startswith("_"):
            importlib.import_module(f"{__name__}.{module}").register(app)
    return app


def _show_warning(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
    if issubclass(category, CodesignWarning):
        print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line.  Exit 0 done, 1 a `CodesignError` (one sentence), 2 wrong usage."""
    limit_threads()
    if not sys.stdout.isatty():  # typer's help would take 80 columns and cut words off
        os.environ.setdefault("TERMINAL_WIDTH", "140")
    debug = "--debug" in sys.argv[1:]
    warnings.showwarning = _show_warning
    try:
        build_app()()
    except CodesignError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ValueError as error:
        # hw_models stands alone, so its refusals are no CodesignErrors; they read like them
        if debug or type(error).__module__ != "hw_models.errors":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        if debug or error.name is None or error.name.partition(".")[0] in ("codesign", "hw_models"):
            raise
        print(f"error: {missing_package(error.name.partition('.')[0])}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        if debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{where}; nothing half-written was left behind",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; a study resumes with the same command", file=sys.stderr)
        raise SystemExit(130) from None
