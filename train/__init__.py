"""Stage two: connectors and soft prompt learn from stored features."""
