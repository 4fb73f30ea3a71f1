"""Revocation lists of the authorities, refreshed in the background and kept over restarts.

Fetched only from the addresses in the anchor, without redirects, within limits of size and time. A list that does not
verify, or is older than the one that is here, changes nothing, and a list of one authority never takes the place of
another's, whichever address it came from. Where the anchor names the authority of an address, no other's list is taken
there, and its own is missed until it came, from there or from another address of the same authority. When the newest
list of an authority is too old, or missing, `revocation.when_unreachable` decides; the time left is a metric from the
first day on, so that it is noticed before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import structlog

from bus.exchange.standing import CertificateStanding
from bus.gateway.listages import Authorities, judge_ages
from bus.metrics import GatewayMetrics
from bus.ports import Clock
from bus.settings import RevocationSettings
from evidence.crl import MAX_LIST_BYTES, RevocationList, authority_of, read_list
from evidence.errors import EvidenceError, RevocationListInvalid
from evidence.x509 import load_pem_chain
from registry.certificates import Backing, Certificates
from registry.fold import Directory
from registry.listaddresses import authorities_by_url

_log = structlog.get_logger("lienthong.gateway")
_DEADLINE_S = 20.0
_LOOK_S = 1.0
_MOST_PER_ADDRESS = 32
"""Authorities of whom an address is listened to; beyond that the one that was silent longest is forgotten."""

Fetch = Callable[[str], Awaitable[bytes]]


class ListUnavailable(OSError):
    """An address gave no list; what is here is still used."""


async def fetch_list(address: str) -> bytes:
    """One list over HTTP(S): no redirects, at most 8 MiB, at most 20 s.

    Raises:
        ListUnavailable: with the reason.
    """
    if not address.startswith(("http://", "https://")):
        raise ListUnavailable("only http and https addresses are fetched")
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(address, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ListUnavailable(f"HTTP {answer.status}")
            data = bytearray()
            async for chunk in answer.content.iter_chunked(65_536):
                data += chunk
                if len(data) > MAX_LIST_BYTES:
                    raise ListUnavailable(f"more than {MAX_LIST_BYTES} bytes")
            return bytes(data)
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise ListUnavailable(type(error).__name__) from error


class RevocationLists:
    """Keeps `standing` up to date.

    Args:
        folder: where lists are kept over restarts.
        settings: limits and intervals.
        standing: what the exchange looks at; changed in place.
        directory: the verified directory.
        leaf: leaf of the directory's log at an index.
        clock: time.
        metrics: of the process.
        fetch: gets the bytes of an address.
    """

    def __init__(
        self,
        folder: Path,
        settings: RevocationSettings,
        standing: CertificateStanding,
        directory: Directory,
        leaf: Callable[[int], bytes | None],
        clock: Clock,
        metrics: GatewayMetrics,
        fetch: Fetch = fetch_list,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._standing = standing
        self._directory = directory
        self._certificates = Certificates(leaf)
        self._clock = clock
        self._metrics = metrics
        self._fetch = fetch
        self._lists: dict[str, dict[str, RevocationList]] = {}  # by address and key of the authority
        self._backing: dict[str, Backing] = {}
        self._backed_size = -1
        self._issuers: frozenset[bytes] = frozenset()
        self._named: tuple[int, Mapping[str, bytes]] = (-1, {})
        self._judged: tuple[int, tuple[RevocationList, ...]] | None = None
        self._stale = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where lists come from, as the newest anchor says it, nobody else."""
        return () if self._directory.anchor is None else self._directory.anchor.revocation_lists

    @property
    def sources(self) -> Mapping[str, frozenset[str]]:
        """Where lists are fetched, and whose they have to be; nobody: anybody's who is trusted."""
        return authorities_by_url(self.addresses)

    async def run(self) -> None:
        """Refreshes and judges until cancelled; `recall` comes first."""
        next_s = 0.0
        asked: tuple[str, ...] = ()
        while True:
            now_s = self._clock.monotonic()
            if self.addresses and (now_s >= next_s or self.addresses != asked):
                asked = self.addresses
                complete = await self.refresh()
                # What failed is tried again soon; a list that is there is asked for at its interval.
                wait_s = self._settings.refresh_s if complete else min(self._settings.refresh_s, 60.0)
                next_s = self._clock.monotonic() + wait_s
            self.judge()
            await asyncio.sleep(_LOOK_S)

    async def recall(self) -> None:
        """Takes up the lists that an earlier run kept, verified again, and judges at once."""
        for address, expected in self.sources.items():
            for path in await asyncio.to_thread(kept_lists, self._folder, address, expected):
                try:
                    found = await self._read(await asyncio.to_thread(path.read_bytes))
                    require_authority(found, expected)
                    self._take(address, found)
                except (OSError, EvidenceError) as error:
                    _log.warning("revocation.list-unreadable", address=address, detail=str(error))
        self.judge()

    async def refresh(self) -> bool:
        """Asks every address once; whether all of them gave a list that counts."""
        complete = True
        for address, expected in self.sources.items():
            try:
                data = await self._fetch(address)
                found = await self._read(data)
                require_authority(found, expected)
                if self._take(address, found):
                    await asyncio.to_thread(self._keep, list_path(self._folder, address, found.signer), data)
            except (OSError, EvidenceError) as error:
                complete = False
                self._metrics.revocation_failures.labels(address).inc()
                _log.warning("revocation.list-not-refreshed", address=address, detail=str(error))
        return complete

    async def _read(self, data: bytes) -> RevocationList:
        """In a thread: a large list takes tenths of a second."""
        return await asyncio.to_thread(read_list, data, self._authorities(), self._clock.now())

    def _take(self, address: str, found: RevocationList) -> bool:
        """Takes a verified list over; False when the one of that authority that is here is newer."""
        at_address = self._lists.setdefault(address, {})
        known = at_address.get(found.signer)
        if known is not None and not found.replaces(known):
            _log.warning("revocation.list-older", address=address, number=found.number)
            return False
        at_address[found.signer] = found
        others = at_address.keys() - self.sources.get(address, frozenset())
        if len(others) > _MOST_PER_ADDRESS:
            del at_address[min(others, key=lambda signer: at_address[signer].this_update_at)]
        return True

    def _authorities(self) -> list[bytes]:
        anchor = self._directory.anchor
        pems: Sequence[str] = () if anchor is None else anchor.certification_authorities
        trusted = [der for pem in pems for der in load_pem_chain(pem.encode())]
        self._look_up_backing()
        return trusted + [der for backing in self._backing.values() for der in backing.authorities]

    def _keep(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_bytes(data)
        written.replace(path)

    def _look_up_backing(self) -> None:
        if self._backed_size != self._directory.size:
            self._backing = self._certificates.of_members(self._directory)
            self._backed_size = self._directory.size
            chains = (chain for backing in self._backing.values() for chain in backing.chains)
            self._issuers = frozenset(one.issuer for chain in chains for one in chain)

    def judge(self) -> None:
        """Who stands now, and whether that is known well enough."""
        if not self.addresses:
            self._standing.withdrawn, self._standing.unknown = frozenset(), False
            return
        lists = tuple(one for address in self.sources for one in self._lists.get(address, {}).values())
        # Members are looked at again when a list or the directory changed; only the age changes by itself.
        basis = (self._directory.size, lists)
        if basis != self._judged:
            self._look_up_backing()
            self._standing.withdrawn = frozenset(
                member for member, backing in self._backing.items() if _withdrawn(backing, lists)
            )
            self._judged = basis
        self._judge_age()

    def _judge_age(self) -> None:
        sources, now = self.sources, self._clock.now()
        lists = {address: tuple(self._lists.get(address, {}).values()) for address in sources}
        ages = judge_ages(sources, lists, self._until, Authorities(self._issuers, self._names()), now)
        for address, left in ages.left.items():
            self._metrics.revocation_left.labels(address).set(left.total_seconds())
        if ages.stale and not self._stale:
            self._metrics.alarm("revocation-list-stale", "")
            _log.error("revocation.list-stale", when_unreachable=self._settings.when_unreachable)
        self._stale = ages.stale
        self._standing.unknown = ages.stale and self._settings.when_unreachable == "refuse"

    def _names(self) -> Mapping[str, bytes]:
        """Authorities that are trusted, by the key with which they sign lists."""
        if self._named[0] != self._directory.size:
            known = [one for der in self._authorities() if (one := authority_of(der)) is not None]
            self._named = self._directory.size, {one.signer: one.name for one in known}
        return self._named[1]

    def _until(self, found: RevocationList) -> datetime:
        return found.current_until_at(timedelta(seconds=self._settings.max_age_s))


def require_authority(found: RevocationList, expected: frozenset[str]) -> None:
    """A list is of the authority that its address speaks for.

    Args:
        found: a verified list.
        expected: keys of the authority, see `RevocationList.signer`; none: any.

    Raises:
        RevocationListInvalid: it is another's; it says nothing about the one whose list was wanted.
    """
    if expected and found.signer not in expected:
        raise RevocationListInvalid(
            f"the list is of the authority with key sha256:{found.signer[:16]}…; the anchor names "
            f"{', '.join(f'sha256:{one[:16]}…' for one in sorted(expected))} for this address: another's list was put "
            "there, or the authority has a new key, which the operator has to name: lienthong certificate lists",
            reason="authority",
        )


def list_path(folder: Path, address: str, signer: str) -> Path:
    """Where a list is kept over restarts.

    Args:
        folder: `crl` in the gateway's data.
        address: of the list, without its authority: it stays when the anchor names one.
        signer: of the list, see `RevocationList`.
    """
    return folder / f"{_stem(address)}-{signer[:32]}.crl"


def kept_lists(folder: Path, address: str, expected: frozenset[str] = frozenset()) -> list[Path]:
    """The lists of an address that are kept, one of each authority that it gave one of.

    Args:
        folder: `crl` in the gateway's data.
        address: of the lists, without an authority.
        expected: keys of the authorities whose lists count there; none: all. What others gave before the anchor said so
            is left out.
    """
    stem = _stem(address)
    names = {f"{stem}.crl", *(list_path(folder, address, one).name for one in expected)}
    return sorted(path for path in folder.glob(f"{stem}*.crl") if not expected or path.name in names)


def _stem(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def _withdrawn(backing: Backing, lists: Sequence[RevocationList]) -> bool:
    """Whether every signature behind a member's newest statement rests on a certificate that a list names."""
    return bool(backing.chains) and all(
        any(one.revokes(issued.issuer, issued.serial) for one in lists for issued in chain) for chain in backing.chains
    )
