"""TVM: shared libraries with a Relax VM executable, its kernels and its weights. Nothing here imports torch at load."""
