"""The eP-ALM model: cached encoder features, injected into a frozen language model."""
