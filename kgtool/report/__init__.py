"""The report: an HTML page about a run, without scripts and without network requests."""
