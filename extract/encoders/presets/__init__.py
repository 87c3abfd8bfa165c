"""The preprocessing that a model was trained with, and the choice of an encoder's own."""
