"""Kernels over edges: the edge index from both ends, look-up, sampling, distances."""
