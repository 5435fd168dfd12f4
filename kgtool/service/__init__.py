"""A web page and a JSON API for one run on this machine: queries, answers and explanations."""
