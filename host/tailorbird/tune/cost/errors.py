"""What may be wrong with a cost model or with what it is to learn from."""

from __future__ import annotations

from tailorbird.errors import TailorbirdError


class CostModelError(TailorbirdError):
    """A saved model or a file of records cannot be used, or there is nothing to learn from."""

    default_reason = "COST_MODEL"
