"""Charts of a report, and the training curves that they draw."""
