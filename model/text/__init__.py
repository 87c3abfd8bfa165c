"""Texts as tokens: tokenizers, special tokens, chat templates, and the encoder of prompts."""
