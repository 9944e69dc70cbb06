"""PCnet: its buffer management unit, which takes frames from the transmit ring and puts others into the receive ring.

::

    transmit ring                                                      receive ring
    | OWN STP     | ─┐                                                 | OWN | <─ filled, STP ──┐
    | OWN         |  ├─ gathered ─ padded, FCS ─┬─ port     port ─┐    | OWN | <─ filled       ├─ frame and FCS
    | OWN     ENP | ─┘                          └─ LOOP ──────────┴──> | OWN | <─ filled, ENP ─┘
    | not OWN     |    here the card waits          filter             | not OWN |  first: MISS, counted in CSR112
         each given back; TINT                                             later: BUFF, the frame is lost; RINT

    OWN without STP where a frame should begin: skipped and given back
    no ENP, and the next is not OWNed: BUFF, UFLO, and the transmitter is off (DXSUFLO: it goes on)

An address that leads nowhere is a master abort: the card stops, RMABORT in the PCI status register and SINT say why.
Without bus mastering it does not get the bus: MERR. Work in one look is bounded (``MOST_DESCRIPTORS``, and
``MOST_FRAME_BYTES`` for one frame).

Source: Am79C970A data sheet, "Buffer Management", "Transmit Operation", "Receive Operation", "Loopback Operation",
"Master Abort".

MODEL: a frame takes no time on the wire; there are no collisions, so ONE, MORE, DEF, RTRY, LCOL and RCVCC stay 0.
Frames from the network are padded when they are too short, since nobody may have done so on the way. Longer ones than
4,095 octets are neither sent nor received. External loopback needs a plug: it stays inside, as internal loopback.
"""

from __future__ import annotations

from vilab.devices import pcnet_control as control
from vilab.devices import pcnet_filter
from vilab.devices import pcnet_registers as r
from vilab.devices import pcnet_rings as rings
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.network_events import Refusal
from vilab.devices.pci_function import COMMAND, COMMAND_MASTER, STATUS
from vilab.devices.pcnet_control import PcnetState
from vilab.devices.pcnet_filter import FCS_BYTES
from vilab.devices.pcnet_rings import Descriptor
from vilab.network.ethernet import HEADER_BYTES, MIN_FRAME_BYTES

MOST_DESCRIPTORS = 64
"""How many descriptors are visited in one look before another frame is begun."""
MOST_FRAME_BYTES = 4095
"""What MCNT can say, with the FCS."""
BABBLE_BYTES = 1519


class PcnetBuffers(NetworkAdapter[PcnetState]):
    """The part of the card that goes to memory."""

    # --- memory -------------------------------------------------------------------------------------------------------

    def _fetch(self, gpa: int, size_bytes: int, of_frame: bool = False) -> bytes | None:
        raw = self._master.read(gpa, size_bytes, "data" if of_frame else "message")
        if raw is None:
            self._bus_error()
        return raw

    def _descriptor(self, base: int, counter: int, length: int) -> Descriptor | None:
        s = self._state
        gpa = control.current(s, base, counter, length)
        raw = self._fetch(gpa, rings.descriptor_bytes(s.style))
        return None if raw is None else rings.parse_descriptor(raw, gpa, s.style, s.high)

    def _close(self, descriptor: Descriptor, status: int, message: int | None = None) -> None:
        """Where it was read it can be written: nothing has changed since."""
        for gpa, content in rings.closing(descriptor, status & ~rings.OWN, message):
            self._master.write(gpa, content)

    def _stop(self) -> None:
        control.stop(self._state)
        self._stop_looking()

    def _bus_error(self) -> None:
        if not self.config[COMMAND] & COMMAND_MASTER:
            self._state.csr[0] |= r.MERR
            return
        self._stop()
        self.put(STATUS, self.get(STATUS, 2) | r.RECEIVED_MASTER_ABORT, 2)
        self._state.csr[5] |= r.SINT

    # --- transmit -----------------------------------------------------------------------------------------------------

    def _next_to_send(self) -> Descriptor | None:
        return self._descriptor(r.BADX, r.XMTRC, r.XMTRL)

    def _transmit(self) -> bool:
        """Send what is in the ring. Is there more?"""
        s, left = self._state, MOST_DESCRIPTORS
        while left > 0:
            s.csr[0] &= ~r.TDMD
            descriptor = self._next_to_send()
            if descriptor is None or not descriptor.owned:
                return False
            if descriptor.status & rings.STP:
                left -= self._send_from(descriptor)
                if not s.transmits:
                    return False
            else:  # the rest of a frame that has failed
                self._close(descriptor, descriptor.status)
                control.advance(s, r.XMTRC, r.XMTRL)
                left -= 1
        return True

    def _send_from(self, first: Descriptor) -> int:
        """One frame. In how many descriptors it was."""
        s, parts = self._state, [b""]
        descriptor, count, size_bytes = first, 1, 0
        while True:
            part = self._fetch(descriptor.buffer, descriptor.size_bytes, of_frame=True)
            if part is None:
                self._refused("bad_descriptor", size_bytes, received=False)
                return MOST_DESCRIPTORS
            parts.append(part)
            size_bytes += len(part)
            control.advance(s, r.XMTRC, r.XMTRL)
            if descriptor.status & rings.ENP or size_bytes > MOST_FRAME_BYTES:
                break
            self._close(descriptor, descriptor.status & rings.TRANSMIT_KEPT)
            following = self._next_to_send()
            if following is None or not following.owned:
                self._refused("bad_descriptor" if following is None else "no_descriptor", size_bytes, received=False)
                if following is not None:
                    self._underflow(descriptor)
                return count
            descriptor, count = following, count + 1
        message, why = self._send_frame(first, descriptor, count, b"".join(parts))
        if why is not None:
            self._refused(why, size_bytes, received=False)
        if s.csr[0] & r.TXON:  # what came back in loopback may have led nowhere
            self._sent(descriptor, message)
        return count

    def _send_frame(self, first: Descriptor, last: Descriptor, count: int, body: bytes) -> tuple[int, Refusal | None]:
        """The frame is whole: pad it, check it, let it go. What its last descriptor says, and why it was not sent."""
        s = self._state
        wire = self._on_the_wire(first, last, body)
        if len(wire) >= BABBLE_BYTES:
            s.csr[0] |= r.BABL
        if len(wire) < HEADER_BYTES + FCS_BYTES:
            return 0, "too_short"
        if len(wire) > MOST_FRAME_BYTES:
            return 0, "too_long"
        if s.mode & r.LOOP:
            self._arrived(wire)
            return 0, None
        if not s.link and not s.mode & r.DLNKTST:
            s.csr[0] |= r.CERR
            return rings.LCAR, "off"
        frame = wire[:-FCS_BYTES]
        if pcnet_filter.fcs(frame) != wire[-FCS_BYTES:]:
            return 0, "bad_fcs"
        self._send(first.gpa, count, frame)
        return 0, None

    def _on_the_wire(self, first: Descriptor, last: Descriptor, body: bytes) -> bytes:
        """With the FCS, which the card appends or the driver has."""
        s = self._state
        if s.csr[4] & r.APAD_XMT:
            body, appended = body.ljust(MIN_FRAME_BYTES, b"\0"), True
        elif s.style == rings.ILACC:
            appended = not last.status & rings.ADD_FCS and not s.mode & r.DXMTFCS
        else:
            appended = bool(first.status & rings.ADD_FCS) or not s.mode & r.DXMTFCS
        return body + pcnet_filter.fcs(body) if appended else body

    def _underflow(self, descriptor: Descriptor) -> None:
        """No end, and the next descriptor is not ours."""
        s = self._state
        self._sent(descriptor, rings.BUFF | rings.UFLO)
        if not s.csr[3] & r.DXSUFLO:
            s.csr[0] &= ~r.TXON

    def _sent(self, descriptor: Descriptor, message: int) -> None:
        s = self._state
        asked = s.csr[5] & r.LTINTEN
        kept = rings.TRANSMIT_KEPT if asked else rings.TRANSMIT_KEPT & ~rings.LAST_INTERRUPT
        error = rings.ERR if message else 0
        self._close(descriptor, descriptor.status & kept | error, message)
        s.csr[4] |= r.TXSTRT
        quiet = not error and (s.csr[5] & r.TOKINTD or (asked and not descriptor.status & rings.LAST_INTERRUPT))
        if not quiet:
            s.csr[0] |= r.TINT

    # --- receive ------------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        if self._state.mode & r.LOOP:
            self._refused("off", len(frame))
        elif len(frame) < HEADER_BYTES:
            self._refused("too_short", len(frame))
        else:
            frame = frame.ljust(MIN_FRAME_BYTES, b"\0")
            self._arrived(frame + pcnet_filter.fcs(frame))
            self._drive()

    def wants_multicast(self, destination: bytes) -> bool:
        s = self._state
        return bool(s.logical_filter >> pcnet_filter.hash_of(destination) & 1)

    def _arrived(self, wire: bytes) -> None:
        s = self._state
        frame_bytes = len(wire) - FCS_BYTES
        if not s.receives:
            self._refused("off", frame_bytes)
            return
        let_in = pcnet_filter.match(
            wire[:6], s.physical_address, s.logical_filter, every=bool(s.mode & r.PROM),
            no_broadcast=bool(s.mode & r.DRCVBC), no_physical=bool(s.mode & r.DRCVPA),
        )  # fmt: skip
        if let_in is None:
            self._refused("filter", frame_bytes)
        elif len(wire) > MOST_FRAME_BYTES:
            self._refused("too_long", frame_bytes)
        else:
            self._store(wire, let_in)

    def _next_to_fill(self) -> Descriptor | None:
        return self._descriptor(r.BADR, r.RCVRC, r.RCVRL)

    def _store(self, wire: bytes, let_in: int) -> None:
        s = self._state
        descriptor = first = self._next_to_fill()
        if first is None or descriptor is None:
            self._refused("bad_descriptor", len(wire) - FCS_BYTES)
            return
        if not first.owned:
            self._missed()
            self._refused("no_descriptor", len(wire) - FCS_BYTES)
            return
        damaged = pcnet_filter.fcs(wire[:-FCS_BYTES]) != wire[-FCS_BYTES:]
        let_in |= rings.RECEIVE_CRC | rings.ERR if damaged else 0
        content, at, count, status = pcnet_filter.stripped(wire) if s.csr[4] & r.ASTRP_RCV else wire, 0, 1, rings.STP
        while True:
            part = content[at : at + descriptor.size_bytes]
            if not self._master.write(descriptor.buffer, part, "data"):
                self._bus_error()
                self._refused("bad_descriptor", len(wire) - FCS_BYTES)
                return
            at += len(part)
            control.advance(s, r.RCVRC, r.RCVRL)
            if at >= len(content):
                break
            self._close(descriptor, status)
            following = self._next_to_fill()
            if following is None or not following.owned:
                self._refused("bad_descriptor" if following is None else "no_descriptor", len(wire) - FCS_BYTES)
                if following is not None:
                    self._close(descriptor, status | rings.ERR | rings.RECEIVE_BUFF)
                    s.csr[0] |= r.RINT
                return
            descriptor, status, count = following, 0, count + 1
        self._close(descriptor, status | rings.ENP | let_in, len(content))
        s.csr[0] |= r.RINT
        self._stored(first.gpa, count, wire[:-FCS_BYTES])

    def _missed(self) -> None:
        s = self._state
        s.csr[0] |= r.MISS
        s.csr[r.MISSED] = s.csr[r.MISSED] + 1 & 0xFFFF
        if not s.csr[r.MISSED]:
            s.csr[4] |= r.MFCO
