"""Model cards: README.md and config.json of a run folder, written from its other files."""
