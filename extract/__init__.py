"""Stage one: a frozen encoder runs once over every medium."""
