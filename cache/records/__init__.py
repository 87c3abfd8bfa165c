"""Documents of a store: header, commit records, media tables and extraction log."""
