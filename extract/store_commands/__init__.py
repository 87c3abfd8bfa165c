"""The subcommands of `epalm-extract`, which work on an existing store."""
