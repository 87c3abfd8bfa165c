"""The method of the paper: injection plan, connectors, prompts, adapters, named variants."""
