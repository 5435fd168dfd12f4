"""A page and a JSON API about one run, on this machine: ask, see the answers, see why."""
