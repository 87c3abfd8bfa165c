"""Requests for answers in the format of OpenAI's chat completions."""
