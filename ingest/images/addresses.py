"""Connections to public addresses only, whatever a URL from somebody's metadata says.

The check comes after the name is resolved, and the connection goes to the very address that was checked: a name server
that answers differently the second time gains nothing. TLS still verifies the host's name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection
from typing import TypeVar

T = TypeVar("T", bound=asyncio.Protocol)
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class UnsafeAddressError(Exception):
    """The host is not on the public internet, and is not among those allowed."""


def is_public(address: IPAddress) -> bool:
    """Whether an address is a host on the public internet: not private, loopback, link-local, multicast, reserved.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged by that.
    """
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        return address in _GLOBAL_UNICAST and address.is_global
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def connect(
    host: str, port: int, protocol: Callable[[], T], *, tls: ssl.SSLContext | None, allowed: Collection[str]
) -> T:
    """Connect to the first address of `host` that answers.

    Parameters
    ----------
    protocol
        Makes the asyncio protocol of the connection, which is returned.
    tls
        For an encrypted connection; it verifies that the host is `host`.
    allowed
        Hosts, as `host` or `host:port` in lower case, that may have any address.

    Raises
    ------
    UnsafeAddressError
        If any of its addresses is not public.
    OSError
        If it has no address, or none answers.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"the name {host} cannot be resolved")
    for address in await _addresses(loop, host, port, allowed):
        try:
            _, connection = await loop.create_connection(
                protocol, address, port, ssl=tls, server_hostname=host if tls else None
            )
        except OSError as error:
            failure = error
        else:
            return connection
    raise failure


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int, allowed: Collection[str]) -> list[str]:
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
        raise OSError(f"the name {host} cannot be resolved: {error}") from error
    addresses = [str(place[4][0]) for place in found]
    if host not in allowed and f"{host}:{port}" not in allowed:
        for address in addresses:
            if not is_public(ipaddress.ip_address(address)):
                raise UnsafeAddressError(f"{host} has the address {address}, which is not public")
    return addresses
