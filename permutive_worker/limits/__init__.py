"""Rates of permits. One shape for all: an integer while it lasts, then `await lease()`."""
