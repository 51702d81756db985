"""Whom a TLS connection to a broker trusts."""

import ssl

from permutive_worker.errors import ConfigurationError


def trusting(where: str, ca: str) -> ssl.SSLContext:
    """Return a context that trusts the certificates in the file `ca`, or the system's if that is empty.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # of which SSLError is one
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{where}: the file of ca, {ca}, cannot be used: {reason}") from None


def is_distrust(error: BaseException | None) -> bool:
    """Whether the error comes from a certificate that is not trusted; some libraries leave only its text."""
    if error is None:
        return False
    # One step and no walk: nats-py keeps errors whose contexts go round in a circle.
    told = (error, error.__cause__, error.__context__)
    return any("CERTIFICATE_VERIFY_FAILED" in str(one) for one in told)
