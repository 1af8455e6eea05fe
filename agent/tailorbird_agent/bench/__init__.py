"""Timing: how long to run, which clock, what to make of the samples; and the figures of the device card.

`stats` is pure; `protocol`, `candidates` and `kernels` run in the measuring worker, which alone imports numpy.
"""

#: Device figures by name, in the order they are measured: peak of dense float32 products, sustained memory traffic.
FIGURE_NAMES = ("gemm-fp32", "stream-triad")
