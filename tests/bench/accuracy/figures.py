"""Figures of a case from what its stages have found so far. Nothing is run here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tailorbird.supernet.accuracy.comparison import compare
from tailorbird.types import Config
from tests.bench.accuracy import frontier, latency_stage, original, prediction, training, tuning
from tests.bench.accuracy.evaluation import Judged, judge
from tests.bench.accuracy.settings import Case
from tests.bench.accuracy.subnets import Drawn, drawn

Found = dict[str, Any]

#: Not predictors: the subnets themselves, run on the fold's validation images.
REFERENCES = {
    "direct": "recalibrated and evaluated on the validation images: what remains is the noise of the images",
    "direct, not recalibrated": "evaluated on the validation images with the full network's statistics",
}


def of_case(case: Case) -> tuple[Found, list[Found]]:
    """Figures, and a row for each random subnet; parts that were not run are None or left out."""
    subnets = drawn(case, None)
    found: Found = {"training": training.known(case), "full": _full(case), "subnets": None, "predictors": {}}
    found["headline"] = latency_stage.known(case)
    found["frontier"] = [frontier.known(case, seed) for seed in range(case.settings.seeds)]
    found["tuned"] = {str(limit): tuning.known(case, 0, limit) for limit in case.tuning}
    if subnets is None:
        return found, []
    judged = [judge_random(case, None, config) for config in subnets.configs]
    done = [place for place, result in enumerate(judged) if result is not None]
    if not done:
        return found, []
    right = [result for result in judged if result is not None]
    found["subnets"] = _subnets(case, subnets, right)
    rows = [
        {
            "net": case.network.name,
            "budget": str(case.budget),
            "key": subnets.configs[place].key,
            "config": subnets.configs[place].to_json(),
            "macs": subnets.macs[place],
            "params": subnets.params[place],
            "accuracy": [float(result.right[case.images.unseen(s, case.judged)].mean()) for s in _seeds(case)],
            "accuracy_all": float(result.right.mean()) if case.settings.whole else None,
            "predictions": {},
        }
        for place, result in zip(done, right, strict=True)
    ]
    for name in (*prediction.PREDICTORS, *REFERENCES):
        said = [_said(case, name, seed, done, right) for seed in _seeds(case)]
        if any(said):
            found["predictors"][name] = _predictor(case, said, rows)
            for number, row in enumerate(rows):
                row["predictions"][name] = [entry and entry["predictions"][number] for entry in said]
    found["beats"] = _beats(found["predictors"])
    return found, rows


def judge_random(case: Case, net: Any, config: Config) -> Judged | None:
    """One of the random subnets: evaluation images and folds; those of the folds without recalibration as well."""
    images = case.images
    folds = slice(images.validation(0).start, images.validation(case.settings.seeds - 1).stop)
    return judge(case, net, config, slice(0, case.judged), folds)


def _seeds(case: Case) -> range:
    return range(case.settings.seeds)


def _full(case: Case) -> Found | None:
    """The full network before and after, on the held-out images no choice has seen, and on all."""
    before = original.known(case)
    total = len(case.images.held[1])
    unseen = case.images.unseen(0, total)
    after = judge(case, None, Config(), slice(0, total))
    if before is None and after is None:
        return None
    found: Found = {"images": int(unseen.sum())}
    for word, right in (("before", before and before[0]), ("after", after and after.right)):
        if right is not None:
            found |= {word: float(right[unseen].mean()), f"{word}_all": float(right.mean())}
    return found


def _subnets(case: Case, subnets: Drawn, right: Sequence[Judged]) -> Found:
    unseen = case.images.unseen(0, case.judged)
    before = original.known(case)
    return {
        "evaluated": len(right),
        "asked": len(subnets.configs),
        "images": int(unseen.sum()),
        "macs_share": spread([macs / subnets.full_macs for macs in subnets.macs]),
        "before": spread(before[1]) if before else None,
        "after": spread([float(result.right[unseen].mean()) for result in right]),
    }


def spread(values: Sequence[float]) -> Found:
    """Smallest, median and largest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _said(case: Case, name: str, seed: int, done: list[int], right: Sequence[Judged]) -> Found | None:
    """What was predicted of the subnets that were evaluated."""
    if name in REFERENCES:
        return _reference(case, name, seed, right)
    known = prediction.known(case, name, seed)
    if known is None:
        return None
    return known | {what: [known[what][place] for place in done] for what in ("predictions", "scores")}


def _reference(case: Case, name: str, seed: int, right: Sequence[Judged]) -> Found:
    fold = case.images.validation(seed)
    if name == "direct":
        values = [float(result.right[fold].mean()) for result in right]
        images = case.images.fold + case.settings.recalibration
    else:
        own = [slice(fold.start - result.plain_from, fold.stop - result.plain_from) for result in right]
        values = [float(result.plain[part].mean()) for result, part in zip(right, own, strict=True)]
        images = case.images.fold
    return {
        "predictions": values,
        "scores": values,
        "calibrated": True,
        "evaluations": len(values),
        "seconds": sum(result.seconds * images / result.images for result in right),  # its part of one joint run
    }


def _predictor(case: Case, said: list[Found | None], rows: list[Found]) -> Found:
    """Comparisons for each seed with images unseen by it, and with all; means over the seeds; cost."""
    seeds, everywhere = [], []
    costs = [row["macs"] for row in rows]
    for seed, entry in enumerate(said):
        if entry is None:
            continue

        def judged(measured: list[float], entry: Found = entry) -> Found:
            figures = compare(
                entry["predictions"], measured, scores=entry["scores"], calibrated=entry["calibrated"], costs=costs
            )
            return asdict(figures)

        seeds.append({"seed": seed} | judged([row["accuracy"][seed] for row in rows]))
        if case.settings.whole:
            everywhere.append(judged([row["accuracy_all"] for row in rows]))
    present = [entry for entry in said if entry is not None]
    looked_at = {key for entry in present for key in entry.get("looked_at", ())}
    return {
        "mean": _mean(seeds),
        "seeds": seeds,
        "mean_all_images": _mean(everywhere) if everywhere else None,
        "evaluations": max(entry["evaluations"] for entry in present),
        "seconds": statistics.fmean(entry["seconds"] for entry in present),
        "anchors_among_subnets": sum(row["key"] in looked_at for row in rows),
    }


def _mean(comparisons: list[Found]) -> Found:
    found: Found = {}
    for name in comparisons[0]:
        values = [comparison[name] for comparison in comparisons if comparison[name] is not None]
        if name != "seed":
            found[name] = float(np.mean(values)) if values else None
    return found


def _beats(predictors: Found) -> Found:
    """Of each other predictor, whether ours ranks better (Kendall tau) and is closer (MAE)."""
    ours = predictors.get("table")
    if ours is None:
        return {}
    found = {}
    for name, other in predictors.items():
        if name == "table" or name in REFERENCES:
            continue
        mine, theirs = ours["mean"], other["mean"]
        found[name] = {
            "kendall_tau": _better(mine["kendall_tau"], theirs["kendall_tau"]),
            "mae_points": _better(theirs["mae_points"], mine["mae_points"]),
        }
    return found


def _better(left: float | None, right: float | None) -> bool | None:
    return None if left is None or right is None else left > right
