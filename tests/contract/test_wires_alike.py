"""Both wires against servers that play dice: what they answer, how, in which pieces, and what goes wrong.

Every answer has a body of its own, and four attempts are made in a row, mostly on one connection: an answer
that is another's, or bent by what was left of the one before, shows. `Answer.outcomes` says what may come of it.
"""

import asyncio
import gzip
import random
import socket
import struct
import zlib
from dataclasses import dataclass

import pytest
from support.raw_server import raw_server
from support.wires import WIRES, post, wire_to

from permutive_worker.errors import TransportError

SCRIPTS = 60
LOST = {("disconnected", True), ("reset", True), ("protocol", True)}
STALE = b"HTTP/1.1 408 Request Timeout\r\nRetry-After: 9\r\nContent-Length: 5\r\n\r\nstale"


@dataclass
class Answer:
    """One answer as it goes over the wire.

    Attributes:
        head_bytes: up to the end of its own head, 1xx included.
        fault: "" for none; "cut", "cut-reset": it breaks off; "behind": more comes with it; "junk": it is none.
        pieces: what is written at once, each followed by this many turns of the loop.
    """

    status: int
    body: bytes
    data: bytes
    head_bytes: int
    until_close: bool
    fault: str
    pieces: list[tuple[bytes, int]]

    def outcomes(self, kind: str) -> set:
        """Return what an attempt may come to."""
        whole, status_only = (self.status, self.body, False), (self.status, b"", True)
        if self.fault == "junk" or len(self.data) < self.head_bytes:
            return LOST
        if self.fault == "behind":
            # aiohttp's parser gives up what it had read in the piece where noise comes.
            return {whole, status_only, ("protocol", True)}
        if not self.fault.startswith("cut"):
            return {whole}
        if not self.until_close:
            return {status_only}
        so_far = (self.status, self.data[self.head_bytes :], False)  # nothing says that there should be more
        if self.fault == "cut":
            return {so_far}
        return {status_only} if kind == "lean" else {so_far}  # the plain wire takes a reset for the end

    async def play(self, writer: asyncio.StreamWriter) -> None:
        for piece, turns in self.pieces:
            if writer.is_closing():
                return
            writer.write(piece)
            await writer.drain()
            for _ in range(turns):
                await asyncio.sleep(0)
        if self.fault == "cut-reset":
            await asyncio.sleep(0.002)  # the kernel hands over what came before
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif self.fault in {"cut", "junk"} or self.until_close:
            writer.close()


def write_answer(dice: random.Random, number: int, reads: str) -> Answer:
    status = dice.choice([200, 200, 200, 201, 400, 429, 503])
    body = b"answer %d %b" % (number, dice.randbytes(dice.choice([0, 9, 300, 9000])))
    fields = [b"X-Number: %d" % number] * dice.randrange(2)
    form = dice.choice(["length"] * 4 + ["chunked", "gzip", "deflate", "gzip chunked", "none", "close"])
    sent = body
    if "gzip" in form:
        sent = gzip.compress(body, mtime=0)
        fields.append(b"Content-Encoding: gzip")
    elif form == "deflate":
        sent = zlib.compress(body)
        fields.append(b"Content-Encoding: deflate")
    if "chunked" in form:
        fields.append(b"Transfer-Encoding: chunked")
        sent = write_chunks(dice, sent)
    elif form == "none":
        status, body, sent = dice.choice([204, 304]), b"", b""
    elif form != "close":
        fields.append(b"Content-Length: %d" % len(sent))
    dice.shuffle(fields)
    end = dice.choice([b"\r\n"] * 9 + [b"\n"])
    head = end.join([b"HTTP/1.1 %d Reason" % status, *fields, b"", b""])
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * dice.choice([0, 0, 0, 1, 2])
    head_bytes, data = len(early + head), early + head + sent
    fault = dice.choice([""] * 7 + ["cut", "cut-reset", "junk"] + ["behind"] * (form != "close"))
    if fault.startswith("cut"):
        data = data[: dice.randrange(1, len(data))]
    elif fault == "junk":
        data = dice.randbytes(30)
    behind = {"whole": STALE, "half": STALE[: dice.randrange(1, len(STALE))], "noise": b"noise\r\n"}
    extra = behind[reads] if fault == "behind" else b""
    return Answer(status, body, data, head_bytes, form == "close", fault, cut(dice, data, extra))


def write_chunks(dice: random.Random, data: bytes) -> bytes:
    chunks = b""
    while data:
        size = dice.choice([1, 7, 500, 5000])
        chunk, data = data[:size], data[size:]
        chunks += b"%x%b\r\n%b\r\n" % (len(chunk), dice.choice([b"", b";a=b"]), chunk)
    trailer = dice.choice([b"", b"", b"X-Trailer: 1\r\n", b"Retry-After: 9\r\nContent-Encoding: gzip\r\n"])
    return chunks + b"0\r\n" + trailer + b"\r\n"


def cut(dice: random.Random, data: bytes, extra: bytes) -> list[tuple[bytes, int]]:
    """`extra` comes in one piece with the end of `data`: later it could be the answer to the next request."""
    at = sorted(dice.randrange(len(data)) for _ in range(dice.choice([0, 0, 0, 1, 2, 5])))
    pieces = [data[start:stop] for start, stop in zip([0, *at], [*at, len(data)], strict=True)]
    pieces[-1] += extra
    return [(piece, dice.choice([0, 1, 3, 5])) for piece in pieces if piece]


async def attempt(wire) -> tuple:
    try:
        response = await wire.send(post())
    except TransportError as error:
        return error.kind, error.sent
    return response.status, response.body, response.truncated


@pytest.mark.parametrize("reads", ["whole", "half", "noise"])
async def test_what_comes_of_it(reads):
    for seed in range(SCRIPTS):
        dice = random.Random(f"{reads} {seed}")
        answers = [write_answer(dice, number, reads) for number in range(4)]
        outcomes = {}
        for kind in WIRES:
            plays = [answer.play for answer in answers]
            async with raw_server(*plays) as server, wire_to(kind, server.url, timeout_seconds=0.5) as wire:
                outcomes[kind] = [await attempt(wire) for _ in answers]
        trusted = list(WIRES)
        for number, answer in enumerate(answers):
            context = (seed, number, answer, outcomes)
            for kind in trusted:
                assert outcomes[kind][number] in answer.outcomes(kind), (kind, *context)
            if answer.fault == "behind" and reads != "noise":
                trusted = [
                    "lean"
                ]  # aiohttp's pool gives what comes behind the end of a body to the next request
            if answer.fault not in {"cut-reset", "behind"} and "plain" in trusted:
                plain, lean = (outcomes[kind][number] for kind in ("plain", "lean"))
                assert plain == lean or {plain, lean} <= LOST, context
