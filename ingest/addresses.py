"""Connections to public addresses only, whatever a URL from somebody's metadata says.

The check comes after the name is resolved, and the connection goes to the very address that was checked: a name server
that answers differently the second time gains nothing. TLS still verifies the host's name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Iterable

import httpcore

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


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to hosts whose addresses are all public, and to those allowed by name.

    Parameters
    ----------
    allowed
        Hosts, as `host` or `host:port`, that may have any address.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = {host.lower() for host in allowed}
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers, within `timeout` seconds for all.

        Raises
        ------
        UnsafeAddressError
            If any of its addresses is not public.
        httpcore.ConnectError, httpcore.ConnectTimeout
            If it has no address, or none answers.
        """
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        try:
            async with asyncio.timeout(timeout):
                for address in await self._addresses(host, port):
                    try:
                        return await self._network.connect_tcp(address, port, None, local_address, socket_options)
                    except httpcore.ConnectError as error:
                        failure = error
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"no connection to {host} within {timeout} s") from None
        raise failure

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
            raise httpcore.ConnectError(f"the name {host} cannot be resolved: {error}") from error
        addresses = [str(place[4][0]) for place in found]
        if not self._allowed & {host, f"{host}:{port}"}:
            for address in addresses:
                if not is_public(ipaddress.ip_address(address)):
                    raise UnsafeAddressError(f"{host} has the address {address}, which is not public")
        return addresses
