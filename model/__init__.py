"""The model: connectors, soft prompt and injection into a frozen OPT."""
