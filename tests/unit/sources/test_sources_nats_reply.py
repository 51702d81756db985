"""The subject that a JetStream message is answered at."""

import pytest

from permutive_worker.sources.nats_reply import read_reply

OLD = "$JS.ACK.JOBS.workers.3.17.20.1795250773539000000.5"
NEW = "$JS.ACK._.accounthash.JOBS.workers.3.17.20.1795250773539000000.5"


@pytest.mark.parametrize("subject", [OLD, NEW, f"{NEW}.random"])
def test_tells_the_place_the_deliveries_and_the_time(subject):
    reply = read_reply(subject)

    assert (reply.subject, reply.sequence, reply.deliveries) == (subject, 17, 3)
    assert reply.stored_seconds == pytest.approx(1795250773.539)


@pytest.mark.parametrize("subject", ["", "_INBOX.a.b", "$JS.ACK.JOBS.workers", OLD.replace("17", "x")])
def test_refuses_what_no_consumer_gave(subject):
    with pytest.raises(ValueError):
        read_reply(subject)
