"""A trained run behind HTTP: an OpenAI-compatible API and a web page."""
