"""Files of a run folder: lock, metrics log, checkpoints."""
