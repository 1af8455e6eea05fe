"""Pareto search over a SuperNet's subnets, and the choice of rungs."""

from tailorbird.search.evolve import Encoding, Objective, evolve
from tailorbird.search.pareto import Point, pareto_front
from tailorbird.search.rungs import MIN_GAP, choose_rungs, slo_from
from tailorbird.search.search import Searchable, SearchResult, search

__all__ = [
    "MIN_GAP",
    "Encoding",
    "Objective",
    "Point",
    "SearchResult",
    "Searchable",
    "choose_rungs",
    "evolve",
    "pareto_front",
    "search",
    "slo_from",
]
