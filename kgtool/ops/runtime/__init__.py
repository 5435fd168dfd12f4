"""Tools that all kernels use: compilation, threads, memory, bfloat16, vectors, sorting, hashing."""
