"""Public data sets by name: what is known of each, where its archive is kept, how it is fetched."""
