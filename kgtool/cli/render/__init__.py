"""Tables for the terminal, a module for what `kgtool` prints of each kind."""
