"""Documents of a store: header, commit records, media records and extraction log."""
