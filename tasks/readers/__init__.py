"""Readers of annotation files and manifests: checked while they are read, in bounded memory."""
