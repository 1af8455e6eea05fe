"""Blame: what of a training step is at fault when it fails, found out after the fact so that good steps pay nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tailorbird.errors import TailorbirdError, UsageError
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.training.failure import NOT_FINITE, TrainingError
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_ONE_VALUE = "Expected more than 1 value per channel"  # how torch's batch_norm refuses


def blamed(error: Exception, net: SuperNet, batch: Batch, *, alone: bool) -> Exception:
    """The error that says what is at fault: bad input of a known kind, or else the error itself.

    alone: no other rank has the same error, of which only one may have bad data: all are to say the same.
    """
    if isinstance(error, TrainingError) and error.reason == NOT_FINITE and alone:
        return _not_finite(error, batch)
    if isinstance(error, TailorbirdError):
        return error
    if _ONE_VALUE in str(error):
        return UsageError(
            f"batch_norm cannot normalise a batch of {batch.size}",
            why="in training it takes the mean and variance over the batch, here of one value for each channel",
            fix="use larger batches, and leave out a last one of one sample: DataLoader(..., drop_last=True)",
        )
    try:
        net.at(net.bound(batch.inputs).leaves, Config())
    except TailorbirdError as of_inputs:
        return of_inputs
    except Exception:  # says no more about the inputs than the error does
        return error
    return error


def checked(loss: Any, output: Any, what: str) -> Tensor:
    """A loss that can be minimised: a scalar with a gradient wherever the network's output has one.

    Raises: UsageError.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        shape = f"{str(loss.dtype).removeprefix('torch.')} {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise UsageError(
            f"the {what} function returned {shape or type(loss).__name__}, not a scalar",
            why="training minimises one floating-point number",
            fix=f"return a tensor with the mean {what} over the samples",
        )
    if not loss.requires_grad and any(x.requires_grad for x in pytree.tree_leaves(output) if isinstance(x, Tensor)):
        raise UsageError(
            f"the {what} function returned a tensor without a gradient",
            why="it is not connected to the network's output",
            fix="compute it from the output with torch, without .item(), .detach(), .numpy() or no_grad",
        )
    return loss.reshape(())


def _not_finite(error: TrainingError, batch: Batch) -> TrainingError:
    """Say so where the data are at fault."""
    for what, values in (("inputs", batch.inputs.tensors), ("labels", pytree.tree_leaves(batch.target))):
        floating = [x for x in values if isinstance(x, Tensor) and x.is_floating_point()]
        if not all(bool(torch.isfinite(x).all()) for x in floating):
            error.why = f"the {what} of this batch hold values that are not finite"
            error.fix = "clean the data; the network holds the weights from before this step"
    return error
