"""Addresses that people type: checked before anything is made with them. Opens nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from console.homes import HomeInvalid

_LISTEN = re.compile(r"[^\s\"'/@]+:[0-9]{1,5}")
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_NUMBERS = re.compile(r"[0-9.]+")


def check_listen(listen: str, option: str) -> None:
    """Refuses what is not `host:port`.

    Raises:
        HomeInvalid: naming the option.
    """
    if not _LISTEN.fullmatch(listen) or int(listen.rpartition(":")[2]) > 65_535:
        raise HomeInvalid(f"{option}: write host:port, like 127.0.0.1:8443")


def host_of(listen: str) -> str:
    """Host of `host:port`, without the brackets of an IPv6 address."""
    return listen.rpartition(":")[0].strip("[]")


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches `host:port`."""
    host = host_of(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_host(listen: str) -> tuple[str, ...]:
    """The host of `host:port` as one more for a certificate; none where it means all addresses."""
    host = host_of(listen)
    try:
        return () if ipaddress.ip_address(host).is_unspecified else (host,)
    except ValueError:
        return (host,) if _DNS_NAME.fullmatch(host) else ()


def check_url(url: str, option: str) -> None:
    """Refuses what is not an address of HTTP.

    Raises:
        HomeInvalid: naming the option.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise HomeInvalid(f"{option}: write http://host:port or https://host:port")


def split_hosts(hosts: Iterable[str]) -> tuple[list[str], list[str]]:
    """DNS names and IP addresses for a certificate.

    Raises:
        HomeInvalid: one is neither.
    """
    names: list[str] = []
    addresses: list[str] = []
    for host in hosts:
        try:
            addresses.append(str(ipaddress.ip_address(host)))
        except ValueError:
            if not _DNS_NAME.fullmatch(host) or _NUMBERS.fullmatch(host):
                raise HomeInvalid(f"--host: {host!r} is neither a DNS name in ASCII nor an IP address") from None
            names.append(host)
    return list(dict.fromkeys(names)), list(dict.fromkeys(addresses))
