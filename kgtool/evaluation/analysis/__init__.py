"""What is read from ranks: breakdowns, significance, tables, result files."""
