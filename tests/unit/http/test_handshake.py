"""What a host is tried for at the start: TCP, the tunnel, TLS, and a sentence for each that fails."""

import re
import socket
import ssl

import pytest
import trustme
from support.proxy import tunnel_proxy
from support.raw_server import OK, raw_server
from support.wires import wire_to

from permutive_worker.errors import ConfigurationError, UnreachableError
from permutive_worker.http.tls import trusting


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def serving(authority, *names):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


async def refusal(url, *, tls=None, proxy=None):
    async with wire_to("plain", url, tls=tls, proxy=proxy, timeout_seconds=2.0) as wire:
        with pytest.raises(UnreachableError) as caught:
            await wire.reach()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "user" not in sentence
    return sentence


async def test_a_host_whose_authority_is_in_the_file_is_reached_without_a_request(authority, ca_file):
    async with raw_server(OK, tls=serving(authority)) as server:
        async with wire_to("plain", server.url, tls=trusting(ca_file)) as wire:
            await wire.reach()
        assert server.requests == []


async def test_a_host_whose_authority_is_not_known_is_not(authority):
    async with raw_server(OK, tls=serving(authority)) as server:
        told = await refusal(server.url)

    assert re.match(
        r"the API host 127\.0\.0\.1:\d+ cannot be reached: its certificate is not trusted \(", told
    )
    assert "http.ca_file" in told


async def test_nor_is_one_with_the_certificate_of_another(authority, ca_file):
    async with raw_server(OK, tls=serving(authority, "elsewhere.example")) as server:
        assert "certificate is not valid for" in await refusal(server.url, tls=trusting(ca_file))


async def test_nor_one_that_speaks_no_tls():
    async with raw_server(OK) as server:
        assert "cannot be reached" in await refusal(server.url.replace("http:", "https:"))


async def test_the_tunnel_of_a_proxy_is_gone_through(authority, ca_file):
    async with raw_server(OK, tls=serving(authority)) as server, tunnel_proxy() as proxy:
        address = proxy.url.replace("http://", "http://user:pass@")
        async with wire_to("plain", server.url, tls=trusting(ca_file), proxy=address) as wire:
            await wire.reach()
        told = await refusal(server.url, proxy=address)

    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in proxy.heads[0]
    assert server.requests == []
    assert told.startswith("the API host 127.0.0.1:")
    assert "its certificate is not trusted" in told


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 \x1b[31mWho\r\n\r\n", "it answered 407"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it answered no HTTP"),
        (b"", "it does not answer as a proxy does"),
        (b"x" * 100_000, "it does not answer as a proxy does"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(answer, reason):
    async with tunnel_proxy(answer) as proxy:
        told = await refusal("https://api.example", proxy=proxy.url)

    assert told.startswith("the proxy 127.0.0.1:")
    assert reason in told


async def test_a_handshake_that_hangs_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with wire_to("plain", url, timeout_seconds=0.2) as wire:
            with pytest.raises(UnreachableError, match="no answer"):
                await wire.reach()


async def test_a_host_that_hangs_up_in_the_handshake_is_told_so(authority):
    newer = trusting()
    newer.minimum_version = ssl.TLSVersion.TLSv1_3
    older = serving(authority)
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    async with raw_server(OK, tls=older) as server:
        assert "it closes the connection" in await refusal(server.url, tls=newer)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "c"),
        (lambda path: path.write_text("no certificate"), "holds no certificate"),
        (lambda path: path.write_text(""), "holds no certificate"),
    ],
)
def test_a_file_without_certificates_is_refused(make, said, tmp_path):
    make(tmp_path / "ca.pem")

    with pytest.raises(ConfigurationError, match=f"^http.ca_file {said}"):
        trusting(str(tmp_path / "ca.pem"))


def test_a_path_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="cannot be read"):
        trusting("a\0b")


def test_certificates_are_always_verified(ca_file):
    for context in (trusting(), trusting(ca_file)):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
