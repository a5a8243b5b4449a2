"""Finding and opening packages."""
