"""The configuration: `settings` has every key, `layers` where values come from, `address` the URLs."""

from permutive_worker.config.key import Key, did_you_mean
from permutive_worker.config.layers import SECRET_VARIABLES, is_secret, unknown_name
from permutive_worker.config.schema import file_schema
from permutive_worker.config.settings import (
    KEYS,
    Admin,
    Delivery,
    Guard,
    Http,
    Input,
    Loaded,
    Log,
    Output,
    RateLimit,
    Settings,
    State,
    load_settings,
    load_with_origins,
    values_of,
)
from permutive_worker.http.address import proxy_from_environment

__all__ = [
    "KEYS",
    "SECRET_VARIABLES",
    "Admin",
    "Delivery",
    "Guard",
    "Http",
    "Input",
    "Key",
    "Loaded",
    "Log",
    "Output",
    "RateLimit",
    "Settings",
    "State",
    "did_you_mean",
    "file_schema",
    "is_secret",
    "load_settings",
    "load_with_origins",
    "proxy_from_environment",
    "unknown_name",
    "values_of",
]
