"""Sample jobs on stdout, so many a second, until nobody reads them: `python jobs.py 100 | permutive-worker enqueue …`."""

import sys
import time

from permutive_worker.cli.demo import sample_lines

per_second = int(sys.argv[1])
try:
    while True:
        began = time.monotonic()
        lines = sample_lines(per_second, seed=time.time_ns())  # other users each second
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
        sys.stdout.flush()
        time.sleep(max(0.0, began + 1 - time.monotonic()))
except BrokenPipeError:
    sys.exit()
