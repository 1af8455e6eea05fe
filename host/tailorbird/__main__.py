"""`python -m tailorbird`: the command line."""

import sys

from tailorbird.cli.main import main

sys.exit(main())
