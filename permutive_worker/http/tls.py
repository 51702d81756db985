"""Whose certificates are trusted. There is no way not to verify them: the key would go to whoever answers."""

import ssl

from permutive_worker.errors import ConfigurationError


def trusting(ca_file: str | None = None) -> ssl.SSLContext:
    """Return what verifies a host: by the system's authorities (or those of SSL_CERT_FILE), and by these beside them.

    Args:
        ca_file: path of a PEM file, for a proxy that inspects TLS or a host with an authority of its own.

    Raises:
        ConfigurationError: it cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        _add(context, ca_file)
    return context


def _add(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(ca_file)
        return
    except ssl.SSLError:
        fault = "holds no certificate in PEM form"
    except (OSError, ValueError) as error:
        fault = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no path'}"
    raise ConfigurationError(f"http.ca_file {fault}; name a file of certificates, or take it out")
