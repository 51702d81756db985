"""Decisions, and nothing else: no loop, no clock, no dice, no I/O. Time and chance are arguments."""
