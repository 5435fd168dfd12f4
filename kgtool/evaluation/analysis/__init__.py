"""Analysis of ranks: breakdowns, significance tests, rank tables, result files."""
