"""The command line: one module for each sub-command of `autofocus`, and what they share."""
