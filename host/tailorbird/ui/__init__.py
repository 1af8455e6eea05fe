"""What a person looks at outside the terminal: the document of a run and the page drawn from it."""

from tailorbird.ui.report import render_report
from tailorbird.ui.run import RUN_SCHEMA, Run, read_run, write_run

__all__ = ["RUN_SCHEMA", "Run", "read_run", "render_report", "write_run"]
