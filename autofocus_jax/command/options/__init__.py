"""The options of each sub-command. Nothing here imports what is slow to import, so that --help answers at once."""

from __future__ import annotations


def any_config() -> tuple[type, ...]:
    """Return what get_config() may give to a command that measures any detector; see config.load.command_line."""
    from autofocus_jax.command.foreign_config import ForeignConfig
    from autofocus_jax.config import Config

    return Config, ForeignConfig
