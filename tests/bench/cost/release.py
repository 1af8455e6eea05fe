"""python -m tests.bench.cost.release [--work DIR] [--records FILE] [--model FILE]

From the store that `tests.bench.cost.collect` filled: the records that the benchmark replays (skipped without a store),
and the cost model that comes with Tailorbird, trained on all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from tailorbird.db import Store
from tailorbird.tune.cost.corpus import read_corpus, write_corpus
from tailorbird.tune.cost.harvest import harvest
from tailorbird.tune.cost.saved import SHIPPED, save
from tailorbird.tune.cost.training import pretrain
from tests.bench.cost.__main__ import RECORDS, SHAPE


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tailorbird-cost")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if (options.work / "store.db").is_file():
        with Store(options.work / "store.db") as store:
            write_corpus(harvest(store.schedules), options.records)
    corpus = read_corpus(options.records)  # as the benchmark sees it: rounded
    network = pretrain(corpus, SHAPE)
    boards = tuple(sorted({task.boards.name for task in corpus.tasks}))
    digest = save(network, options.model, compiler=corpus.compiler, records=corpus.records, boards=boards)
    sys.stderr.write(f"{corpus.records:,} records of {len(boards)} classes of boards; model {digest[:12]}\n")


if __name__ == "__main__":
    main()
