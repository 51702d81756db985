"""What the worker tells of itself: counts, progress, metrics, status, logs."""
