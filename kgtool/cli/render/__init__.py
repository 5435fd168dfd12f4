"""Tables for the terminal: a module for each kind of output."""
