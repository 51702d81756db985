"""Host names to addresses."""

import socket

import pytest

from permutive_worker.http.names import Names


async def test_a_name_has_addresses_and_an_address_is_its_own():
    for host in ("localhost", "127.0.0.1"):
        found = await Names().resolve(host, 8080)
        assert ("127.0.0.1", 8080, socket.AF_INET) in {
            (one["host"], one["port"], one["family"]) for one in found
        }


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", "x" * 70 + ".example"])
async def test_what_has_none_is_an_os_error(host):
    with pytest.raises(OSError):
        await Names().resolve(host)
