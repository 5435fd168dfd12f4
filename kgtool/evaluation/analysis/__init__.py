"""Analysis of ranks: breakdowns, significance, tables, result files."""
