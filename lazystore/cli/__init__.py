"""The command line: `lazystore` with its commands, and `convert-to-zarr`.

Commands live one a module and are imported here for their signatures only: what they work with
is imported when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lazystore.cli import bench, convert, correct, demo, events, info, materialize, repair, verify, view
from lazystore.cli.output import print_error
from lazystore.errors import LazystoreError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
INTERRUPTED = "interrupted; what was finished is kept: run the same command again to resume"

app = typer.Typer(
    name="lazystore",
    help="Convert once, open at once, scrub anything.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("lazystore"))
        raise typer.Exit


@app.callback()
def _lazystore(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Convert once, open at once, scrub anything."""


app.command("convert", help=convert.HELP)(convert.convert)
app.command("info", help=info.HELP)(info.info)
app.command("view", help=view.HELP)(view.view)
app.command("verify", help=verify.HELP)(verify.verify)
app.command("repair", help=repair.HELP)(repair.repair)
app.command("set", help=correct.HELP)(correct.correct)
app.command("materialize", help=materialize.HELP)(materialize.materialize)
app.command("demo", help=demo.HELP)(demo.demo)
app.command("bench", help=bench.HELP)(bench.bench)
app.add_typer(events.app, name="events")

_convert_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
_convert_app.command("convert-to-zarr", help=convert.HELP, no_args_is_help=True)(convert.convert)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``lazystore``; returns the exit status."""
    return _run(app, "lazystore", arguments)


def convert_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``convert-to-zarr``; returns the exit status."""
    return _run(_convert_app, "convert-to-zarr", arguments)


def _run(application: typer.Typer, name: str, arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    command: Any = typer.main.get_command(application)
    try:
        result = command.main(args=words, prog_name=name, standalone_mode=False)
    except LazystoreError as error:
        if debug:
            raise
        print_error(str(error))
        return error.exit_status
    except typer.Exit as stop:
        return int(stop.exit_code)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(str(error), file=sys.stderr)  # its message is the help text
            return EXIT_USAGE
        format_message = getattr(error, "format_message", None)
        if format_message is not None:
            # A click error: the words of the command line, not their meaning, are wrong.
            print_error(f"{' '.join(format_message().split()).rstrip('.')}; see {name} --help")
            return int(getattr(error, "exit_code", EXIT_USAGE))
        if debug:
            raise
        print_error(f"{type(error).__name__}: {error}; run again with --debug to see where")
        return 1
    status = result if isinstance(result, int) else 0
    # Typer has caught the interrupt already and gives its status, silently.
    if status == EXIT_INTERRUPTED:
        print_error(INTERRUPTED)
    return status
