"""Lines of code a SuperNet costs its user."""
