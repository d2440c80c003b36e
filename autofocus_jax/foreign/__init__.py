"""Foreign detectors, each reduced to one function: crops -> boxes, scores and labels."""
