"""Files: atomic writes, checkpoints, mapped tables, tables of text, Parquet, archives."""
