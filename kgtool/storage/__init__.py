"""Files: atomic writes, checkpoints, memory-mapped tables, text tables, Parquet, archives."""
