"""The options of each sub-command. Nothing here imports what is slow to import, so that --help answers at once."""
