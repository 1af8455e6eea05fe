"""The agent on a board that is another than this machine: only its card differs.

python another_board.py FIELDS_AS_JSON run --state DIR ...
"""

from __future__ import annotations

import dataclasses
import json
import sys

from tailorbird_agent import daemon
from tailorbird_agent.__main__ import main

fields = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(sys.argv[1]).items()}
read_card = daemon.read_card
daemon.read_card = lambda *given, **options: dataclasses.replace(read_card(*given, **options), **fields)
sys.exit(main(sys.argv[2:]))
