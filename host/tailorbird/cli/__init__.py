"""The command line: parses, calls the stages, renders. Nothing is computed here."""
