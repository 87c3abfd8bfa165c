"""Stage two: training connectors and a soft prompt on cached features."""
