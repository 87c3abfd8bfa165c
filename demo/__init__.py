"""`epalm-demo`: all three stages on generated data and small models that come with the package."""
