"""Identity: digests of a network and of a task, by which their results are found again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import marshal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.task import Task

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def net_digest(net: SuperNet) -> str:
    """SHA-256 of what a subnet's answers follow from: operators, stored tensors, order of channels, search space."""
    layout = f"{net.graph.graph}\0{net.graph.out_spec}\0{net.space.dimensions}"
    tensors = {name: net.tensor(name) for name in net.graph.tensors}
    learnt = {} if net.learnt is None else net.learnt.named()
    tensors |= {f"learnt {name}": value for name, value in learnt.items()}
    tensors |= {f"order of {name}": order for name, order in net.orders.items()}
    tensors |= {f"transform {name}": value for name, value in net.transforms.state_dict().items()}
    return hashlib.sha256(f"{layout}\0{tensors_digest(tensors)}".encode()).hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def task_identity(task: Task) -> str | None:
    """A text that two tasks share only when they judge alike; None when that cannot be told, as of a callable object.

    A function of the user's own is known by the file that defines it, its name and what it closes over.
    """
    if _is_ours(task):
        return task.name
    parts = [_function(part) for part in (task.metric, task.distance)]
    return None if None in parts else "\0".join([task.name, *map(str, parts)])


def _is_ours(task: Task) -> bool:
    try:
        return Task.of(task.name) == task
    except UsageError:
        return False


def _function(function: Callable[..., Any]) -> str | None:
    if not inspect.isfunction(function):
        return None
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    constants = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    source = inspect.getsourcefile(function)
    if source is None or not all(isinstance(value, int | float | str | None) for value in constants):
        return None
    try:
        file = _file_digest(Path(source))
    except OSError:  # typed at a prompt
        return None
    # The second version of the format has no references, whose number differs from run to run.
    return f"{file} {hashlib.sha256(marshal.dumps(function.__code__, 2)).hexdigest()} {constants}"


@functools.lru_cache(maxsize=32)
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
