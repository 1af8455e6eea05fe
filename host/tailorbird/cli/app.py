"""All commands in one place, and the border where exceptions end."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from typer._click import exceptions as click_errors

from tailorbird.cli import (
    bench,
    compile_,
    demo,
    deploy,
    devices,
    doctor,
    report,
    search,
    serve,
    simulate,
    supernet,
    train,
    tune,
)
from tailorbird.cli.screen import print_failure
from tailorbird.errors import TailorbirdError, UsageError

app = typer.Typer(
    name="tailorbird",
    help="Make one trained PyTorch model run well on every board you own, and keep running well.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tailorbird {importlib.metadata.version('tailorbird')}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


groups = (demo, doctor, devices, bench, supernet, train, search, compile_, tune, deploy, serve, simulate, report)
for group in groups:
    group.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 SLO or gate not met, 4 device unreachable, 5 noisy, 130 interrupted.
    """
    # Threads that spin while they wait waste half of a busy two-core board; read when torch's OpenMP starts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    as_json = "--json" in arguments
    try:
        _check_alone(os.environ)
        code = app(list(arguments), prog_name="tailorbird", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except TailorbirdError as error:
        print_failure(error, as_json=as_json)
        return error.exit_code
    except click_errors.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        return 0
    except click_errors.ClickException as error:
        print_failure(_usage(error), as_json=as_json)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our pipe left (`tailorbird devices | head -1`); the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _check_alone(environment: Mapping[str, str]) -> None:
    if "LOCAL_RANK" in environment and environment.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            "the command line is one process, and torchrun has started several",
            why="each would do the same stage and write the same files",
            fix="run it without torchrun; to train with several processes, call net.fit in a script of yours and give "
            "torchrun that",
        )


def _usage(error: click_errors.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tailorbird"
    return UsageError(error.format_message(), fix=f"see `{command} --help`")
