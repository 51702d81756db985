"""Whom the program trusts: an authority of one's own, in each way to name it, and nobody else."""

import ssl

import pytest
import trustme
from support.faults import identify, lines
from support.program import KEY, program
from support.proxy import tunnel_proxy
from support.raw_server import OK, raw_server

from permutive_worker.errors import DecodingError
from permutive_worker.permutive import PermutiveClient

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def folder(authority, tmp_path):
    (tmp_path / "jobs.ndjson").write_bytes(lines(*map(identify, range(5))))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


@pytest.fixture
async def server(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    async with raw_server(OK, tls=context) as started:
        started.url = started.url.replace("127.0.0.1", "localhost")  # which goes by no proxy
        yield started


@pytest.mark.parametrize("wire", ["lean", "plain"])
async def test_a_file_of_certificates_is_trusted_by_each_wire(folder, server, wire):
    ended = await program(
        *("run", "--base-url", server.url, "--set", f"http.wire={wire}", "--set", "http.ca_file=ca.pem"),
        "jobs.ndjson",
        cwd=folder,
    )

    assert (ended.code, ended.summary["delivered"]) == (0, 5), ended.text


async def test_the_variable_of_openssl_is_honoured(folder, server):
    ended = await program(
        *("run", "--base-url", server.url, "jobs.ndjson"),
        cwd=folder,
        env={"PERMUTIVE_API_KEY": KEY, "SSL_CERT_FILE": str(folder / "ca.pem")},
    )

    assert (ended.code, ended.summary["delivered"]) == (0, 5), ended.text


async def test_through_the_tunnel_of_a_proxy_too(folder, authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.example").configure_cert(context)
    async with raw_server(OK, tls=context) as server, tunnel_proxy(to=server.url) as proxy:
        ended = await program(
            *("run", "--base-url", "https://api.example", "--set", "http.ca_file=ca.pem", "jobs.ndjson"),
            cwd=folder,
            env={"PERMUTIVE_API_KEY": KEY, "https_proxy": proxy.url},
        )

    assert (ended.code, ended.summary["delivered"]) == (0, 5), ended.text
    assert len(server.requests) == 5
    assert all(head.startswith(b"CONNECT api.example:443 ") for head in proxy.heads)


async def test_a_host_that_is_not_trusted_is_one_sentence_and_69_and_gets_no_request(folder, server):
    ended = await program("run", "--base-url", server.url, "--timeout", "0.5", "jobs.ndjson", cwd=folder)

    (told,) = [line for line in ended.text.splitlines() if line.startswith("permutive-worker: ")]
    assert ended.code == 69, ended.text
    assert "its certificate is not trusted" in told
    assert "http.ca_file" in told
    assert "Traceback" not in ended.text
    assert server.requests == []


async def test_a_file_that_holds_none_is_refused_before_anything_is_sent(folder, server):
    (folder / "ca.pem").write_text("no certificate")
    ended = await program(
        *("run", "--base-url", server.url, "--set", "http.ca_file=ca.pem", "jobs.ndjson"), cwd=folder
    )

    assert ended.code == 78, ended.text
    assert "http.ca_file holds no certificate in PEM form" in ended.text


async def test_the_client_and_its_command_take_it_as_well(folder, server):
    async with PermutiveClient(api_key=KEY, base_url=server.url, ca_file=folder / "ca.pem") as permutive:
        with pytest.raises(DecodingError, match="was taken"):  # the server says {}
            await permutive.users.identify("user-1", [])
    ended = await program(
        *("api", "cohorts", "list", "--base-url", server.url, "--set", "http.ca_file=ca.pem"), cwd=folder
    )

    assert "CERTIFICATE" not in ended.text
    assert len(server.requests) == 2
