"""The report: one HTML page about a run, which needs no network and runs no script."""
