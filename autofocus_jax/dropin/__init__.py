"""Look only where something small may be, from a program that slices: change one import.

`get_focused_prediction` stands for SAHI's `get_sliced_prediction`, `FocusSlicer` for supervision's `InferenceSlicer`.
"""

from autofocus_jax.dropin.look import DropInError
from autofocus_jax.dropin.sahi_prediction import get_focused_prediction
from autofocus_jax.dropin.supervision_slicer import FocusSlicer

__all__ = ["DropInError", "FocusSlicer", "get_focused_prediction"]
