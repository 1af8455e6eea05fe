"""A callable named on the command line, `FILE.py:callable` or `package.module:callable`, loaded with clear errors."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tailorbird.errors import MissingFileError, ModelError, UsageError


@dataclass(frozen=True, slots=True)
class Source:
    """A callable by name: `location` is a file (ends in .py, absolute) or a dotted module."""

    location: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read "MODEL.py:make" or "package.module:make".

        Raises:
            UsageError: there is no colon, or nothing on one side of it.
            MissingFileError: the file does not exist.
        """
        location, colon, name = text.rpartition(":")
        if not colon or not location or not name.isidentifier():
            raise UsageError(
                f"{text!r} names no callable",
                why="a source is a file and a callable in it, joined by a colon",
                fix=f"write {(text.rstrip(':') or 'MODEL.py')}:make",
            )
        if not location.endswith(".py"):
            return cls(location, name)
        path = Path(location).expanduser()
        if not path.is_file():
            raise MissingFileError(
                f"there is no file {location}", fix="check the path; it is relative to the current folder"
            )
        return cls(str(path.resolve()), name)

    def __str__(self) -> str:
        return f"{self.location}:{self.name}"

    def load(self) -> Callable[..., Any]:
        """Import the file or module and return the callable.

        Raises:
            ModelError: the import fails, there is no such name, or it cannot be called.
        """
        module = self._import()
        try:
            found = getattr(module, self.name)
        except AttributeError:
            names = sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
            raise ModelError(
                f"{self.location} has no {self.name!r}",
                why=f"its callables are {', '.join(names[:12]) or 'none'}",
                fix="name one of them after the colon",
            ) from None
        if not callable(found):
            raise ModelError(
                f"{self} is not callable",
                why=f"it is of type {type(found).__name__}",
                fix="name a function or class that returns the object when called without arguments",
            )
        return found

    def _import(self) -> ModuleType:
        try:
            if not self.location.endswith(".py"):
                return importlib.import_module(self.location)
            path = Path(self.location)
            name = f"tailorbird_user_{path.stem}_{hashlib.sha256(self.location.encode()).hexdigest()[:8]}"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            if str(path.parent) not in sys.path:
                sys.path.insert(0, str(path.parent))  # the file may import its neighbours, as it would when run
            spec.loader.exec_module(module)
        except Exception as error:
            raise ModelError(
                f"{self.location} cannot be imported",
                why=cause_words(error, self.location),
                fix="run it with python first",
            ) from error
        return module


def load_model(source: Source, *, seed: int = 0) -> nn.Module:
    """Call the user's factory with the random seed fixed, so that an untrained model is the same one each time.

    Raises:
        ModelError: the factory fails or returns something else than a module.
    """
    factory = source.load()
    torch.manual_seed(seed)
    try:
        model = factory()
    except Exception as error:
        raise ModelError(
            f"{source} failed", why=cause_words(error, source.location), fix="it is called without arguments"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{source} returned a {type(model).__name__}",
            why="a torch.nn.Module is needed",
            fix="return the model itself",
        )
    return model.eval()


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a module's parameters and buffers, and over its structure."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def source_sha256(source: Source) -> str:
    """SHA-256 of the source file; of the module's file for a dotted name, "" for one without a file."""
    if source.location.endswith(".py"):
        return hashlib.sha256(Path(source.location).read_bytes()).hexdigest()
    spec = importlib.util.find_spec(source.location)
    origin = spec.origin if spec else None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if origin and Path(origin).is_file() else ""


def cause_words(error: BaseException, location: str) -> str:
    """An exception in one line, with the last line of the user's own file that it passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == location]
    place = f" (line {frames[-1].lineno} of {Path(location).name})" if frames else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}{place}" if first else f"{type(error).__name__}{place}"
