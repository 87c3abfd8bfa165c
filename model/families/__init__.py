"""Language-model families: names of their modules, and checks of their configurations."""
