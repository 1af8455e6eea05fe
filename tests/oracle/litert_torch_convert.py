"""Convert exported programs with litert-torch. Runs in .venv-oracle, which cannot share an environment with TVM's pins.

.venv-oracle/bin/python litert_torch_convert.py PROGRAM.pt2 OUTPUT.tflite
"""

from __future__ import annotations

import sys

import litert_torch
import torch


class Called(torch.nn.Module):
    """An exported module refuses eval(), which the converter calls; this one holds it out of reach."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._module = [module]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._module[0](*inputs)


def main(program: str, output: str) -> None:
    """Convert one program saved by torch.export.save, at the shapes of its example inputs."""
    exported = torch.export.load(program)
    inputs, _ = exported.example_inputs
    litert_torch.convert(Called(exported.module()).eval(), tuple(inputs)).export(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
