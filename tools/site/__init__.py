"""Generated pages of the documentation's site, and the hooks that mkdocs calls for them."""
