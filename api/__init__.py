"""The Python interface: the commands as functions, with the same names and defaults."""
