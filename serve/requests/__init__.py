"""Requests over HTTP: their bodies, fields and files, who may send them, and errors."""
