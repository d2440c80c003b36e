"""Settings as frozen dataclasses. `load` reads them from files and command lines, `stored` from JSON data."""

from autofocus_jax.config.detector import AnchorConfig, BackboneConfig, DetectorConfig, DetectorSettings
from autofocus_jax.config.experiment import Config, StackingConfig, open_split, require_categories
from autofocus_jax.config.source import DataSource
from autofocus_jax.config.training import AugmentationConfig, TrainingConfig
from autofocus_jax.errors import ConfigError

__all__ = [
    "AnchorConfig", "AugmentationConfig", "BackboneConfig", "Config", "ConfigError", "DataSource", "DetectorConfig",
    "DetectorSettings", "StackingConfig", "TrainingConfig", "open_split", "require_categories",
]  # fmt: skip
