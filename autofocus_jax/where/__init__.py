"""Where to look next: functions that make a focus map for a detector that has none of its own."""
