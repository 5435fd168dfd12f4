"""Kernels of all-paths passes: the search for reached entities, messages, the GRU, the loss."""
