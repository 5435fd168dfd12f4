"""A local web page and JSON API for a run: queries, answers, explanations."""
