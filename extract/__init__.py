"""Stage one: a frozen encoder runs once over every sample, and its features are stored."""
