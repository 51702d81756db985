"""The subject that a JetStream message is answered at: all that is known of the delivery stands in it. Pure."""

from typing import Final

import msgspec

OLD_TOKENS: Final = (
    9  # $JS.ACK.stream.consumer.deliveries.sequence.… ; newer servers: with domain and account
)


class Reply(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One delivery of a message.

    Attributes:
        subject: where acks go.
        sequence: of the message in the stream.
        deliveries: how often it was given to somebody, this time included.
        stored_seconds: posix time at which the stream took it.
    """

    subject: str
    sequence: int
    deliveries: int
    stored_seconds: float


def read_reply(subject: str) -> Reply:
    """Read the reply subject of a message.

    Raises:
        ValueError: it is none of a JetStream consumer.
    """
    tokens = subject.split(".")
    first = 4 if len(tokens) == OLD_TOKENS else 6
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < first + 4:
        raise ValueError("this message did not come from a JetStream consumer")
    deliveries, sequence, _, stored_ns = map(int, tokens[first : first + 4])
    return Reply(subject, sequence, deliveries, stored_ns / 1e9)
