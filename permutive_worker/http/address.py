"""Addresses: where the API is, and the proxy on the way to it. Pure; the environment is an argument.

No sentence here repeats a URL: one may hold a password.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from permutive_worker.errors import ConfigurationError


def base_url_fault(url: str, *, allow_http: bool) -> str | None:
    """Say what is wrong with the API's base URL, None if it will do. A path prefix is fine."""
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"}:
        return "must be a URL such as https://api.permutive.app"
    if "@" in parts.netloc:
        return "must hold no user name and no password; the key comes from PERMUTIVE_API_KEY_FILE"
    if "?" in url or "#" in url:
        return "must hold no query and no fragment, only host, port and a path"
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        return (
            "must begin with https://, because plain http shows the key to the network; "
            "set http.allow_http = true if that is meant"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether the host is this machine by its very name: 127.0.0.0/8, ::1, localhost."""
    address = _address(host)
    return address.is_loopback if address else host.lower().rstrip(".") == "localhost"


def proxy_from_environment(base_url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy for requests to `base_url`, None to go straight there.

    As curl does it: `https_proxy` or `http_proxy` by the scheme of the URL, then `all_proxy`, each in
    small letters before capitals, empty meaning unset; `no_proxy` lists hosts, domains with all that is
    below them, addresses and networks, each with or without a port, or `*`. A proxy without a scheme is
    http. Unlike curl, loopback is never proxied: no proxy can reach this machine's own.

    Raises:
        ConfigurationError: naming the variable; never its value, which may hold a password.

    Source: https://everything.curl.dev/usingcurl/proxies/env.html; Go's net/http for loopback.
    """
    target = urlsplit(base_url)
    host = target.hostname or ""
    port = target.port or (443 if target.scheme == "https" else 80)
    if is_loopback(host) or _is_excluded(host, port, _variable(environ, "no_proxy")[1]):
        return None
    for name in (f"{target.scheme}_proxy", "all_proxy"):
        variable, value = _variable(environ, name)
        if value:
            return proxy_url(variable, value)
    return None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for spelling in (name, name.upper()):
        if value := environ.get(spelling, "").strip():
            return spelling, value
    return name, ""


def proxy_url(name: str, value: str) -> str:
    """Return the URL of a proxy; without a scheme it is http.

    Raises:
        ConfigurationError: it is none; `name` says who gave it.
    """
    url = value if "://" in value else f"http://{value}"
    parts = _split(url)
    if parts is None:
        raise ConfigurationError(f"{name} must be a URL such as http://proxy.example.com:3128")
    if parts.scheme not in {"http", "https"}:
        raise ConfigurationError(f"{name} must be an http:// or https:// proxy; others are not supported")
    return url


def _is_excluded(host: str, port: int, no_proxy: str) -> bool:
    return any(
        pattern == "*" or (wanted_port in (None, port) and _covers(pattern, host))
        for pattern, wanted_port in _patterns(no_proxy)
    )


def _patterns(no_proxy: str) -> Iterator[tuple[str, int | None]]:
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        with_port = re.fullmatch(r"(\[[^]]*\]|[^:]*):(\d{1,5})", entry)
        pattern, port = (with_port[1], int(with_port[2])) if with_port else (entry, None)
        pattern = pattern.strip("[]").removeprefix("*.").strip(".") if pattern != "*" else pattern
        if pattern:
            yield pattern, port


def _covers(pattern: str, host: str) -> bool:
    address = _address(host)
    if address is None:
        host = host.lower().rstrip(".")
        return host == pattern or host.endswith(f".{pattern}")
    try:
        return address in ip_network(pattern, strict=False)
    except ValueError:
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _split(url: str) -> SplitResult | None:
    """Split a URL with a host; None if it is none. urlsplit's own errors repeat the URL."""
    if not re.fullmatch(r"[!-~]+", url):  # urlsplit would silently drop tabs and line ends
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 and "\\" not in url else None
    except ValueError:
        return None
