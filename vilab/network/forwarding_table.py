"""What a learning switch remembers: behind which port an address was seen last.

::

    (VLAN, address) ── learn ──> port, when         older than AGEING_NS: as if it were not there
                                                    full: nothing new is learned, what is known is still updated

Source: IEEE 802.1D-2004, 7.9 and table 7-5 (300 s).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

AGEING_NS = 300_000_000_000
MAX_ENTRIES = 8192


class Entry(msgspec.Struct):
    port: str
    seen_ns: int


class ForwardingTable(msgspec.Struct):
    """``entries``: by VLAN, then by address."""

    entries: dict[int, dict[bytes, Entry]] = {}
    count: int = 0

    def find(self, vlan: int, mac: bytes, now_ns: int) -> str | None:
        entry = self.entries.get(vlan, {}).get(mac)
        return entry.port if entry is not None and now_ns - entry.seen_ns < AGEING_NS else None

    def learn(self, vlan: int, mac: bytes, port: str, now_ns: int) -> str | None:
        """Returns where it was before. The port is updated whether or not there is room."""
        addresses = self.entries.setdefault(vlan, {})
        entry = addresses.get(mac)
        if entry is not None:
            before = entry.port if now_ns - entry.seen_ns < AGEING_NS else None
            entry.port, entry.seen_ns = port, now_ns
            return before
        if self.count >= MAX_ENTRIES:
            self._purge(lambda it: now_ns - it.seen_ns >= AGEING_NS)
        if self.count < MAX_ENTRIES:
            addresses = self.entries.setdefault(vlan, {})
            addresses[mac] = Entry(port, now_ns)
            self.count += 1
        return None

    def forget(self, port: str) -> None:
        self._purge(lambda it: it.port == port)

    def known(self, now_ns: int) -> list[tuple[int, bytes, str, int]]:
        """(VLAN, address, port, when seen), for people."""
        return [
            (vlan, mac, it.port, it.seen_ns)
            for vlan, addresses in sorted(self.entries.items())
            for mac, it in sorted(addresses.items())
            if now_ns - it.seen_ns < AGEING_NS
        ]

    def _purge(self, is_over: Callable[[Entry], bool]) -> None:
        kept = {
            vlan: {mac: it for mac, it in addresses.items() if not is_over(it)}
            for vlan, addresses in self.entries.items()
        }
        self.entries = {vlan: addresses for vlan, addresses in kept.items() if addresses}
        self.count = sum(map(len, self.entries.values()))
