"""The tour: the whole pipeline on this machine, through the same stage functions as the separate commands."""
