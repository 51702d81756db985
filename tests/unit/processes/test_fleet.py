"""What a run in several processes says of itself before they are there."""

from permutive_worker.config import Settings
from permutive_worker.credentials import Keyring
from permutive_worker.processes.fleet import Fleet


def test_before_the_first_process_the_number_of_lines_is_not_known():
    fleet = Fleet(Settings(), [], keyring=Keyring.of_key("not-a-real-key"), command=[], log_format="json")

    status = fleet.look()

    assert (status.state, status.total) == ("starting", None)
