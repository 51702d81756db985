"""From a delivery to its settlement: intake, lanes, senders, settler, and what ends a run."""
