"""Checks, repair and copies of existing stores."""
