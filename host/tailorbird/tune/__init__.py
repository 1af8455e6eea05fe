"""Find fast schedules for a ladder's kernels on the device itself, within a time budget.

    with Builders(target) as builders:                      # tune.builders: workers warm up while other stages run
        modules = [prepare(import_network(network), target) for network in networks]    # compile.tvm.pipeline
        tuning = tune(modules, measure, 20.0, records, builders)                        # tune.tuner
        libraries = build_rungs(modules, tuning, builders)

Order of means: an exact hit (same structural hash) costs nothing; then decisions of sibling kernels in this ladder or
of earlier runs, refitted to the new extents; then search from a register-tiling prior, ranked by a cost model learnt
from this device's own measurements. The package imports nothing by itself: workers start without torch.
"""
