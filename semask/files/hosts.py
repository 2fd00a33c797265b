"""Which addresses a server can be reached by."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "[::1]")]
    [True, True, True, True]
    >>> is_loopback("0.0.0.0"), is_loopback("example.org")
    (False, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
