"""Options of `epalm-train`: their declaration, and the three values made of them."""
