"""Entry point of `tailorbird`: runs the commands and turns every failure into what / why / fix and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_HINT = """The command line is not installed ({missing} is missing).
why: `pip install tailorbird` alone is what an edge agent needs; the host side is an extra
fix: pip install 'tailorbird[host]'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, which the console script hands to the shell."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # OpenMP's threads spin while they wait for each other. On a machine that does anything else beside, the one that
    # lost its core makes the others burn theirs: training took ten times as long. Not to spin at all costs a quarter on
    # an idle machine; a spin of a few microseconds costs neither. Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        from tailorbird.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "tailorbird":
            raise
        sys.stderr.write(_HINT.format(missing=error.name) + "\n")
        return 1
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
