"""Commands, flags, signals, logging and progress: the only room that touches the process."""
