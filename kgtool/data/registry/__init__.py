"""Public data sets by name: their entries, the cache of archives, fetching."""
