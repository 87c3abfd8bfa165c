"""The paper's method: injection plan, connectors, prompts, adapters, named variants, settings."""
