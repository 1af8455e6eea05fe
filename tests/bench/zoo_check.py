"""One network of the zoo through the compiler: what is found in it, and whether every subnet is exact."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

import tailorbird as tb
from tailorbird.errors import TailorbirdError
from tailorbird.supernet import SuperNet
from tailorbird.types import Config
from tests.zoo.entry import Entry

RANDOM = 6  # configurations beside the smallest
Inputs = tuple[Tensor, ...]
Row = dict[str, Any]

# How much worse than the one before each outcome of a comparison is.
_BITWISE, _ROUNDING, _WRONG = "bitwise", "rounding", "wrong"
_TOLERANCE = 1e-6  # of the largest output: another memory format adds in another order


def check(entry: Entry, configurations: int = RANDOM) -> Row:
    """The row of one network. `status` is exact | wrong | refused | failed; every value is plain JSON.

    refused: the compiler said, in a TailorbirdError, that it cannot; failed: anything else that was raised.
    """
    model, inputs = entry.build()
    row: Row = {
        "name": entry.name,
        "params": sum(p.numel() for p in model.parameters()),
        "wants": {"depth": entry.residual, "heads": entry.attention},
    }
    started = time.process_time()
    try:
        net = tb.elastic(model, inputs)
    except TailorbirdError as error:
        return row | {"status": "refused", "captured": False, "error": str(error)}
    except Exception as error:
        return row | {"status": "failed", "captured": False, "error": f"{type(error).__name__}: {error}"[:2000]}
    row |= {"captured": True, "build_seconds": round(time.process_time() - started, 2)}
    try:
        row |= _found(net) | _exactness(model, net, inputs, configurations)
    except Exception as error:
        row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}
    return row


def compare(left: object, right: object) -> str:
    """bitwise | rounding | wrong: two outputs of any structure. A NaN equals a NaN."""
    a, b = ([leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)] for value in (left, right))
    if len(a) != len(b) or any(x.shape != y.shape or x.dtype != y.dtype for x, y in zip(a, b, strict=True)):
        return _WRONG
    if all(bool(((x == y) | (x.isnan() & y.isnan())).all()) for x, y in zip(a, b, strict=True)):
        return _BITWISE
    near = all(
        torch.allclose(x, y, rtol=0, atol=_TOLERANCE * max(1.0, float(x.abs().max())), equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
    return _ROUNDING if near else _WRONG


@contextmanager
def reference() -> Iterator[None]:
    """The user's network as written: without the fused inference path of nn.MultiheadAttention, without gradients."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _found(net: SuperNet) -> Row:
    report = net.report
    pins = Counter((pin.op, pin.reason) for pin in report.pinned)
    return {
        "elastic_fraction": round(report.elastic_fraction, 4),
        "width_fraction": round(_width_fraction(net), 4),
        "params_smallest": net.params(net.space.smallest()),
        "width": len(net.space.width),
        "heads": len(net.space.heads),
        "depth": len(net.space.depth),
        "kernel": len(net.space.kernel),
        "any_batch": report.any_batch,
        "unknown_ops": list(report.unknown_ops),
        "pinned": [[op, reason, count] for (op, reason), count in pins.most_common()],
        "notes": list(report.notes),
    }


def _width_fraction(net: SuperNet) -> float:
    """Share of the parameters in tensors that are cut where every dimension is smallest and no block is skipped."""
    narrow = net.space.canonical(Config.of({d.name: d.choices[0] for d in net.space.dimensions if d.kind != "depth"}))
    full = {name: p.numel() for name, p in net.extract().named_parameters()}
    kept = {name: p.numel() for name, p in net.extract(narrow).named_parameters()}
    return sum(n for name, n in full.items() if kept.get(name, 0) < n) / max(1, sum(full.values()))


def _exactness(model: nn.Module, net: SuperNet, inputs: Inputs, random: int) -> Row:
    """Full configuration against the model, subnets against the supernet, counts against counting."""
    row: Row = {}
    other = _other(model, inputs)
    with reference():
        full = [compare(model(*_copies(x)), net(*_copies(x))) for x in (inputs, other)]
        leaves = pytree.tree_leaves(model(*_copies(other)))
    row["full"] = max(full, key=_badness)
    row["finite"] = all(bool(x.isfinite().all()) for x in leaves if isinstance(x, Tensor) and x.is_floating_point())
    configs = [net.space.smallest(), *(net.space.sample(seed) for seed in range(1, random + 1))]
    outcomes, problems = [], []
    for number, config in enumerate(configs):
        try:
            subnet = net.extract(config)
            with torch.no_grad():
                outcome = compare(net(*_copies(other), config=config), subnet(*_copies(other)))
            counted = sum(p.numel() for p in subnet.parameters())
            if net.params(config) != counted:
                outcome = "wrong"
                problems.append(f"configuration {number}: params() says {net.params(config)}, counted {counted}")
        except Exception as error:
            outcome = "failed"
            problems.append(f"configuration {number}: {type(error).__name__}: {error}"[:600])
        outcomes.append(outcome)
    row["configurations"] = dict(Counter(outcomes))
    if net.report.any_batch:
        more = tuple(torch.cat([x, x.flip(-1)]) for x in other)
        with reference():
            row["batch"] = max(
                compare(model(*_copies(more)), net(*_copies(more))),
                compare(net(*_copies(more), config=configs[1]), net.extract(configs[1])(*_copies(more))),
                key=_badness,
            )
    row["macs"] = _macs(net, configs[1], inputs)
    row["reexport"] = _reexport(net, configs[1], other)
    row["problems"] = problems
    seen = {row["full"], *outcomes, row["reexport"], row.get("batch", _BITWISE)}
    order = (_WRONG, "failed", _ROUNDING)
    row["status"] = "exact" if seen == {_BITWISE} else next((s for s in order if s in seen), "failed")
    return row


def _badness(outcome: str) -> int:
    return (_BITWISE, _ROUNDING, _WRONG).index(outcome)


def _copies(inputs: Inputs) -> Inputs:
    return tuple(x.clone() for x in inputs)


def _other(model: nn.Module, inputs: Inputs) -> Inputs:
    """Inputs that the compiler has not seen: the example's, mirrored; so nothing of the example can be baked in."""
    mirrored = tuple(x.flip(-1).contiguous() for x in inputs)
    try:
        with reference():
            model(*_copies(mirrored))
    except Exception:
        return inputs
    return mirrored


def _macs(net: SuperNet, config: Config, inputs: Inputs) -> list[int]:
    """What the supernet says and what running the extracted subnet counts, per sample.

    Counted on one sample where any batch runs: what a network computes once for the whole batch must not be divided.
    """
    if net.report.any_batch:
        batch = inputs[0].shape[0]
        inputs = tuple(x[:1] if x.ndim and x.shape[0] == batch else x for x in inputs)
    counter = FlopCounterMode(display=False)
    subnet = net.extract(config)  # outside: it multiplies kernels by their transform matrices
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        subnet(*_copies(inputs))
    return [net.macs(config), counter.get_total_flops() // 2 // inputs[0].shape[0]]


def _reexport(net: SuperNet, config: Config, inputs: Inputs) -> str:
    subnet = net.extract(config)
    try:
        with torch.no_grad():
            again = torch.export.export(subnet, _copies(inputs)).module()
            return compare(subnet(*_copies(inputs)), again(*_copies(inputs)))
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"[:600]
