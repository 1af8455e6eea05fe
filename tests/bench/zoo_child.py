"""One network of the zoo in a process of its own: python -m tests.bench.zoo_child NAME [--pruning].

Prints one JSON object a line as soon as it is known: the compiler's row, then Torch-Pruning's. Whoever started it may
end it at any time and keep what is there.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings

import torch

from tests.bench.zoo_check import check
from tests.zoo import catalogue

_MEMORY_BYTES = 14 << 30  # of address space: a network that needs more fails alone


def main() -> None:
    """Print the rows of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--pruning", action="store_true")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entry = catalogue.entry(options.name)
    _say(started := time.monotonic(), check(entry))
    if options.pruning:
        from tests.bench.zoo_pruning import prune

        _say(started, {"pruning": prune(entry)})


def _say(started: float, row: dict[str, object]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sys.stdout.write(json.dumps(row | {"seconds": round(time.monotonic() - started, 1), "peak_mib": peak}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
