"""The admin server: metrics, probes and status over HTTP, for machines and for people."""
