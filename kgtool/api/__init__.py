"""The functions of a notebook, a module for each command of the command line."""
