"""Randomness: streams of random numbers that nothing else disturbs, and that a later run can go on with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_DEEPEST = 6  # attributes of attributes that are looked through for generators
_MANY = 64  # entries of a collection from which it is data
_SKIPPED = {"_iterator"}  # of a DataLoader: the processes of its workers

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


class Stream:
    """Random numbers of its own for what draws from the global generators of torch, numpy and Python.

    Whatever is drawn outside does not move the stream, and the stream moves nothing outside. own: further generators,
    which the stream moves on from where it left them, even if somebody else drew from them meanwhile.
    """

    def __init__(self, seed: int, device: torch.device, own: Generators | None = None) -> None:
        self._seed, self._device, self._own = seed, device, own
        self._states: tuple[Any, ...] | None = None
        self._own_states = None if own is None else own.state()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """The global generators are those of the stream for a while."""
        outside = _states(self._device)
        if self._states is None:
            _seed(self._seed, self._device)
        else:
            _restore(self._states, self._device)
        if self._own is not None and self._own_states is not None:
            self._own.load(self._own_states)
        try:
            yield
        finally:
            self._states = _states(self._device)
            self._own_states = None if self._own is None else self._own.state()
            _restore(outside, self._device)


class Generators:
    """The generators that an object holds, in attributes of attributes: those of a loader, its samplers and data."""

    def __init__(self, holder: object) -> None:
        self._found: dict[str, Generator] = {}
        self._search(holder, "", 0, {})

    @property
    def names(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(self._found)

    def state(self) -> dict[str, Any]:
        """What each of them will go on with, as plain values."""
        return {name: _state(generator) for name, generator in self._found.items()}

    def load(self, states: Mapping[str, Any]) -> None:
        """Let them go on from there."""
        for name, state in states.items():
            _load(self._found[name], state)

    def _search(self, value: Any, name: str, depth: int, seen: dict[int, Any]) -> None:
        if id(value) in seen or depth > _DEEPEST:
            return
        seen[id(value)] = value  # kept alive, so that no other object gets its id
        if isinstance(value, Generator):
            if not isinstance(value, random.SystemRandom):
                self._found[name] = value
            return
        for key, entry in _parts(value):
            self._search(entry, f"{name}.{key}".lstrip("."), depth + 1, seen)


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    """What an object holds, by name."""
    if isinstance(value, Tensor | nn.Module | np.ndarray | type | ModuleType):
        return ()
    if isinstance(value, dict | list | tuple):  # no other mappings: they may read files
        return list(value.items() if isinstance(value, dict) else enumerate(value)) if len(value) <= _MANY else ()
    if isinstance(value, FunctionType):
        return [
            (name, _content(cell))
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        ]
    if isinstance(value, MethodType):
        return [("self", value.__self__)]
    if isinstance(value, partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    return [(name, entry) for name, entry in vars(value).items() if name not in _SKIPPED] if _has_vars(value) else ()


def _has_vars(value: Any) -> bool:
    return isinstance(getattr(value, "__dict__", None), dict)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate()


def _load(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _plain(value: Any) -> Any:
    """Arrays as lists: a file that is read safely holds none."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def position() -> tuple[Any, ...]:
    """Where the global generators stand, to be compared."""
    arrays = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), repr(_plain(arrays)), random.getstate()


def _states(device: torch.device) -> tuple[Any, ...]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), np.random.get_state(), random.getstate(), on_device  # noqa: NPY002


def _restore(states: tuple[Any, ...], device: torch.device) -> None:
    own, arrays, plain, on_device = states
    torch.set_rng_state(own)
    np.random.set_state(arrays)  # noqa: NPY002
    random.setstate(plain)
    if on_device is not None:
        torch.cuda.set_rng_state(on_device, device)


def _seed(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (users' code draws from the global generator)
    random.seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
