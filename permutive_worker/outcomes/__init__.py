"""Where outcomes become durable: results, dead letters, returned lines, or the caller's own function."""
