"""From a stand-alone subnet to a module a device can load.

    network = capture(subnet, example_inputs)              # compile.capture: torch.export, batch norm folded
    built = backend("tvm").build(network, target)          # compile.base: bytes, signature, seconds
    verify(built, subnet, [example_inputs])                # compile.verify: against torch
    kernels_of(subnet, example_inputs)                     # compile.kernels: what to micro-benchmark

A backend is one folder: `litert` writes .tflite files directly, `tvm` compiles shared libraries. The package imports
nothing by itself: tuning's worker processes use `compile.tvm` and start in a third of the time without torch.
"""
