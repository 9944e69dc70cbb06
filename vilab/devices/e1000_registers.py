"""Intel 82545EM, a gigabit Ethernet controller: its registers, as a driver for PRO/1000 MT adapters sees them.

Each is 32 bits wide and stands at its offset behind base address 0 (memory). Behind base address 4 (I/O) there are two:
0 takes the offset of a register, 4 is that register. A read of a statistics register clears it::

    0x0000     RW CTRL          PHY reset 31, VLANs 30, reset 26, speed 9-8, set link up 6, full duplex 0
    0x0004     RW CTRL_DUP      the same register once more
    0x0008     R  STATUS        speed 7-6, transmitter paused 4, link up 1, full duplex 0
    0x0010     RW EECD          EEPROM wires: clock 0, select 1, in 2, out 3; request 6, grant 7, present 8
    0x0014     RW EERD          read one word: data 31-16, address 15-8, done 4, start 0
    0x0018     RW CTRL_EXT      extended control, kept
    0x0020     RW MDIC          error 30, interrupt 29, ready 28, operation 27-26, PHY 25-21, register 20
    0x0028     RW FCAL          flow control address, low, kept
    0x002c     RW FCAH          flow control address, high, kept
    0x0030     RW FCT           flow control type, kept
    0x0038     RW VET           the type field that says VLAN
    0x00c0     RW ICR           interrupt causes; a read clears all, a write those with a 1
    0x00c4     RW ITR           least time between interrupts, in 256 ns: 15-0
    0x00c8     W  ICS           set interrupt causes
    0x00d0     RW IMS           interrupt mask; a write lets through those with a 1
    0x00d8     W  IMC           mask off those with a 1
    0x0100     RW RCTL          no FCS 26, size 25 17-16, VLANs 18, broadcast 15, long 5, all 4-3, on 1
    0x0170     RW FCTTV         flow control timer, kept
    0x0178     RW TXCW          transmit configuration word of the fibre version, kept
    0x0180     R  RXCW          receive configuration word of the fibre version: 0
    0x0400     RW TCTL          transmit: pad short 3, on 1
    0x0410     RW TIPG          gaps between frames, kept
    0x0458     RW AIFS          adaptive gap, kept
    0x0e00     RW LEDCTL        lamps, kept
    0x1000     RW PBA           packet buffer in KB: transmit 31-16, receive 15-0
    0x2160     RW FCRTL         flow control threshold, low, kept
    0x2168     RW FCRTH         flow control threshold, high, kept
    0x2800     RW RDBAL         receive ring: address, low, 16 bytes aligned
    0x2804     RW RDBAH         receive ring: address, high
    0x2808     RW RDLEN         receive ring: bytes, a multiple of 128
    0x2810     RW RDH           receive ring: head, the device's
    0x2818     RW RDT           receive ring: tail, the driver's
    0x2820     RW RDTR          receive interrupt delay in 1.024 us 15-0, now 31
    0x2828     RW RXDCTL        receive descriptor control, kept
    0x282c     RW RADV          receive interrupt delay, absolute, in 1.024 us
    0x2c00     RW RSRPD         frames up to this many bytes interrupt as small ones
    0x3800     RW TDBAL         transmit ring: address, low, 16 bytes aligned
    0x3804     RW TDBAH         transmit ring: address, high
    0x3808     RW TDLEN         transmit ring: bytes, a multiple of 128
    0x3810     RW TDH           transmit ring: head, the device's
    0x3818     RW TDT           transmit ring: tail, the driver's
    0x3820     RW TIDV          transmit interrupt delay in 1.024 us 15-0, now 31
    0x3828     RW TXDCTL        transmit descriptor control, kept
    0x382c     RW TADV          transmit interrupt delay, absolute, in 1.024 us
    0x3830     RW TSPMT         segmentation padding, kept
    0x4000     R  CRCERRS       bad FCS
    0x4004     R  ALGNERRC      bad alignment
    0x400c     R  RXERRC        receive errors: a buffer that leads nowhere
    0x4010     R  MPC           missed: no room in the packet buffer
    0x4040     R  RLEC          length errors
    0x405c     R  PRC64         received with 64 bytes; to 127, 255, 511, 1023, more: five follow
    0x4074     R  GPRC          good frames received
    0x4078     R  BPRC          of these, broadcast
    0x407c     R  MPRC          of these, multicast
    0x4080     R  GPTC          good frames transmitted
    0x4088     R  GORCL         bytes of good frames received, low
    0x408c     R  GORCH         the same, high
    0x4090     R  GOTCL         bytes of good frames transmitted, low
    0x4094     R  GOTCH         the same, high
    0x40a0     R  RNBC          no descriptor was free as a frame came
    0x40a4     R  RUC           too short
    0x40ac     R  ROC           too long
    0x40c0     R  TORL          bytes of all frames received, low
    0x40c4     R  TORH          the same, high
    0x40c8     R  TOTL          bytes of all frames transmitted, low
    0x40cc     R  TOTH          the same, high
    0x40d0     R  TPR           all frames received
    0x40d4     R  TPT           all frames transmitted
    0x40d8     R  PTC64         transmitted with 64 bytes; to 127, 255, 511, 1023, more: five follow
    0x40f0     R  MPTC          of those transmitted, multicast
    0x40f4     R  BPTC          of those transmitted, broadcast
    0x40f8     R  TSCTC         segmentation contexts done
    0x40fc     R  TSCTFC        segmentation contexts that failed
    0x5000     RW RXCSUM        receive checksums: TCP and UDP 9, IP 8, start of the packet checksum 7-0
    0x5200     RW MTA           multicast hash, 128 registers, a bit each for 4096 values
    0x5400     RW RA            16 addresses: RAL low 31-0; RAH valid 31, select 17-16, high 15-0
    0x5600     RW VFTA          VLAN filter, 128 registers, a bit each for 4096 VLANs
    0x5800     R  WUC           wake up: 0
    0x5808     R  WUFC          wake up filters: 0
    0x5810     R  WUS           wake up status: 0
    0x5820     RW MANC          management control, kept

MODEL: what is named "kept" holds what the driver has written and does nothing: no flow control, no collisions, no
lamps, no descriptor thresholds (TXD_LOW does not come). No wake up, no flash memory, no MSI, no diagnostic access to
the packet buffer, no addresses of the 82542. Whatever is not in the table reads 0. Registers are written whole.

Source: Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual, revision 4.0.
"""

from __future__ import annotations

from vilab.devices.registers import Register


def _r(offset: int, access: str, name: str, section: str, meaning: str) -> Register:
    return Register(offset, access, name, meaning, f"8254x Software Developer's Manual 4.0, {section}")


REGISTERS = (
    _r(0x00000, "RW", "CTRL", "13.4.1", "PHY reset 31, VLANs 30, reset 26, speed 9-8, set link up 6, full duplex 0"),
    _r(0x00004, "RW", "CTRL_DUP", "13.4.1", "the same register once more"),
    _r(0x00008, "R", "STATUS", "13.4.2", "speed 7-6, transmitter paused 4, link up 1, full duplex 0"),
    _r(0x00010, "RW", "EECD", "13.4.3", "EEPROM wires: clock 0, select 1, in 2, out 3; request 6, grant 7, present 8"),
    _r(0x00014, "RW", "EERD", "13.4.4", "read one word: data 31-16, address 15-8, done 4, start 0"),
    _r(0x00018, "RW", "CTRL_EXT", "13.4.6", "extended control, kept"),
    _r(0x00020, "RW", "MDIC", "13.4.7", "error 30, interrupt 29, ready 28, operation 27-26, PHY 25-21, register 20"),
    _r(0x00028, "RW", "FCAL", "13.4.8", "flow control address, low, kept"),
    _r(0x0002c, "RW", "FCAH", "13.4.9", "flow control address, high, kept"),
    _r(0x00030, "RW", "FCT", "13.4.10", "flow control type, kept"),
    _r(0x00038, "RW", "VET", "13.4.11", "the type field that says VLAN"),
    _r(0x000c0, "RW", "ICR", "13.4.17", "interrupt causes; a read clears all, a write those with a 1"),
    _r(0x000c4, "RW", "ITR", "13.4.18", "least time between interrupts, in 256 ns: 15-0"),
    _r(0x000c8, "W", "ICS", "13.4.19", "set interrupt causes"),
    _r(0x000d0, "RW", "IMS", "13.4.20", "interrupt mask; a write lets through those with a 1"),
    _r(0x000d8, "W", "IMC", "13.4.21", "mask off those with a 1"),
    _r(0x00100, "RW", "RCTL", "13.4.22", "no FCS 26, size 25 17-16, VLANs 18, broadcast 15, long 5, all 4-3, on 1"),
    _r(0x00170, "RW", "FCTTV", "13.4.12", "flow control timer, kept"),
    _r(0x00178, "RW", "TXCW", "13.4.13", "transmit configuration word of the fibre version, kept"),
    _r(0x00180, "R", "RXCW", "13.4.14", "receive configuration word of the fibre version: 0"),
    _r(0x00400, "RW", "TCTL", "13.4.33", "transmit: pad short 3, on 1"),
    _r(0x00410, "RW", "TIPG", "13.4.34", "gaps between frames, kept"),
    _r(0x00458, "RW", "AIFS", "13.4.35", "adaptive gap, kept"),
    _r(0x00e00, "RW", "LEDCTL", "13.4.15", "lamps, kept"),
    _r(0x01000, "RW", "PBA", "13.4.16", "packet buffer in KB: transmit 31-16, receive 15-0"),
    _r(0x02160, "RW", "FCRTL", "13.4.23", "flow control threshold, low, kept"),
    _r(0x02168, "RW", "FCRTH", "13.4.24", "flow control threshold, high, kept"),
    _r(0x02800, "RW", "RDBAL", "13.4.25", "receive ring: address, low, 16 bytes aligned"),
    _r(0x02804, "RW", "RDBAH", "13.4.26", "receive ring: address, high"),
    _r(0x02808, "RW", "RDLEN", "13.4.27", "receive ring: bytes, a multiple of 128"),
    _r(0x02810, "RW", "RDH", "13.4.28", "receive ring: head, the device's"),
    _r(0x02818, "RW", "RDT", "13.4.29", "receive ring: tail, the driver's"),
    _r(0x02820, "RW", "RDTR", "13.4.30", "receive interrupt delay in 1.024 us 15-0, now 31"),
    _r(0x02828, "RW", "RXDCTL", "13.4.46", "receive descriptor control, kept"),
    _r(0x0282c, "RW", "RADV", "13.4.31", "receive interrupt delay, absolute, in 1.024 us"),
    _r(0x02c00, "RW", "RSRPD", "13.4.32", "frames up to this many bytes interrupt as small ones"),
    _r(0x03800, "RW", "TDBAL", "13.4.36", "transmit ring: address, low, 16 bytes aligned"),
    _r(0x03804, "RW", "TDBAH", "13.4.37", "transmit ring: address, high"),
    _r(0x03808, "RW", "TDLEN", "13.4.38", "transmit ring: bytes, a multiple of 128"),
    _r(0x03810, "RW", "TDH", "13.4.39", "transmit ring: head, the device's"),
    _r(0x03818, "RW", "TDT", "13.4.40", "transmit ring: tail, the driver's"),
    _r(0x03820, "RW", "TIDV", "13.4.41", "transmit interrupt delay in 1.024 us 15-0, now 31"),
    _r(0x03828, "RW", "TXDCTL", "13.4.43", "transmit descriptor control, kept"),
    _r(0x0382c, "RW", "TADV", "13.4.44", "transmit interrupt delay, absolute, in 1.024 us"),
    _r(0x03830, "RW", "TSPMT", "13.4.45", "segmentation padding, kept"),
    _r(0x04000, "R", "CRCERRS", "13.7", "bad FCS"),
    _r(0x04004, "R", "ALGNERRC", "13.7", "bad alignment"),
    _r(0x0400c, "R", "RXERRC", "13.7", "receive errors: a buffer that leads nowhere"),
    _r(0x04010, "R", "MPC", "13.7", "missed: no room in the packet buffer"),
    _r(0x04040, "R", "RLEC", "13.7", "length errors"),
    _r(0x0405c, "R", "PRC64", "13.7", "received with 64 bytes; to 127, 255, 511, 1023, more: five follow"),
    _r(0x04074, "R", "GPRC", "13.7", "good frames received"),
    _r(0x04078, "R", "BPRC", "13.7", "of these, broadcast"),
    _r(0x0407c, "R", "MPRC", "13.7", "of these, multicast"),
    _r(0x04080, "R", "GPTC", "13.7", "good frames transmitted"),
    _r(0x04088, "R", "GORCL", "13.7", "bytes of good frames received, low"),
    _r(0x0408c, "R", "GORCH", "13.7", "the same, high"),
    _r(0x04090, "R", "GOTCL", "13.7", "bytes of good frames transmitted, low"),
    _r(0x04094, "R", "GOTCH", "13.7", "the same, high"),
    _r(0x040a0, "R", "RNBC", "13.7", "no descriptor was free as a frame came"),
    _r(0x040a4, "R", "RUC", "13.7", "too short"),
    _r(0x040ac, "R", "ROC", "13.7", "too long"),
    _r(0x040c0, "R", "TORL", "13.7", "bytes of all frames received, low"),
    _r(0x040c4, "R", "TORH", "13.7", "the same, high"),
    _r(0x040c8, "R", "TOTL", "13.7", "bytes of all frames transmitted, low"),
    _r(0x040cc, "R", "TOTH", "13.7", "the same, high"),
    _r(0x040d0, "R", "TPR", "13.7", "all frames received"),
    _r(0x040d4, "R", "TPT", "13.7", "all frames transmitted"),
    _r(0x040d8, "R", "PTC64", "13.7", "transmitted with 64 bytes; to 127, 255, 511, 1023, more: five follow"),
    _r(0x040f0, "R", "MPTC", "13.7", "of those transmitted, multicast"),
    _r(0x040f4, "R", "BPTC", "13.7", "of those transmitted, broadcast"),
    _r(0x040f8, "R", "TSCTC", "13.7", "segmentation contexts done"),
    _r(0x040fc, "R", "TSCTFC", "13.7", "segmentation contexts that failed"),
    _r(0x05000, "RW", "RXCSUM", "13.4.47", "receive checksums: TCP and UDP 9, IP 8, start of the packet checksum 7-0"),
    _r(0x05200, "RW", "MTA", "13.5.1", "multicast hash, 128 registers, a bit each for 4096 values"),
    _r(0x05400, "RW", "RA", "13.5.2", "16 addresses: RAL low 31-0; RAH valid 31, select 17-16, high 15-0"),
    _r(0x05600, "RW", "VFTA", "13.5.4", "VLAN filter, 128 registers, a bit each for 4096 VLANs"),
    _r(0x05800, "R", "WUC", "13.6.1", "wake up: 0"),
    _r(0x05808, "R", "WUFC", "13.6.2", "wake up filters: 0"),
    _r(0x05810, "R", "WUS", "13.6.3", "wake up status: 0"),
    _r(0x05820, "RW", "MANC", "13.6", "management control, kept"),
)  # fmt: skip
NAMES = {register.port: register.name for register in REGISTERS}

VENDOR, DEVICE, REVISION, CLASS_ETHERNET = 0x8086, 0x100F, 0x01, 0x020000
SUBSYSTEM = (0x15AD, 0x0750)
MEMORY_BYTES, IO_BYTES = 128 << 10, 8
MEMORY_BAR, IO_BAR = 0, 4
MEMORY_TYPE_64 = 0b10 << 1
PACKET_BUFFER_KB = 64
IO_ADDRESS, IO_DATA = 0, 4

CTRL, CTRL_DUP, STATUS, EECD, EERD, CTRL_EXT, MDIC, VET = 0x00, 0x04, 0x08, 0x10, 0x14, 0x18, 0x20, 0x38
ICR, ITR, ICS, IMS, IMC = 0xC0, 0xC4, 0xC8, 0xD0, 0xD8
RCTL, TCTL, PBA = 0x100, 0x400, 0x1000
RDBAL, RDH, RDT, RDTR, RADV, RSRPD = 0x2800, 0x2810, 0x2818, 0x2820, 0x282C, 0x2C00
TDBAL, TDH, TDT, TIDV, TADV = 0x3800, 0x3810, 0x3818, 0x3820, 0x382C
RXCSUM, MTA, RA, VFTA = 0x5000, 0x5200, 0x5400, 0x5600
STATISTICS = range(0x4000, 0x4100, 4)

CTRL_FD, CTRL_SLU, CTRL_RST, CTRL_VME, CTRL_PHY_RST = 1 << 0, 1 << 6, 1 << 26, 1 << 30, 1 << 31
STATUS_FD, STATUS_LU, STATUS_1000 = 1 << 0, 1 << 1, 0b10 << 8 | 0b10 << 6

TXDW, TXQE, LSC, RXDMT0, RXO, RXT0, MDAC, SRPD = (1 << bit for bit in (0, 1, 2, 4, 6, 7, 9, 16))
CAUSES = 0x1_FEDF
"""Those that the 82545EM has, the pins and what never comes here among them (13.4.17)."""

RCTL_EN, RCTL_UPE, RCTL_MPE, RCTL_LPE, RCTL_BAM, RCTL_VFE = (1 << bit for bit in (1, 3, 4, 5, 15, 18))
RCTL_LBM, RCTL_RDMTS_SHIFT, RCTL_MO_SHIFT, RCTL_SIZE_SHIFT = 0b11 << 6, 8, 12, 16
RCTL_BSEX, RCTL_SECRC = 1 << 25, 1 << 26
TCTL_EN, TCTL_PSP = 1 << 1, 1 << 3
RXCSUM_IP, RXCSUM_TCP = 1 << 8, 1 << 9
RAH_VALID, RAH_SOURCE = 1 << 31, 0b01
NOW = 1 << 31
"""RDTR and TIDV: what is delayed comes now."""
DELAY_NS, THROTTLE_NS = 1024, 256
"""One unit of RDTR, RADV, TIDV and TADV; one of ITR."""

_FULL, _RING_BYTES = 0xFFFF_FFFF, 0xF_FF80
WRITABLE: dict[int, int] = {
    CTRL_EXT: _FULL, 0x28: _FULL, 0x2C: 0xFFFF, 0x30: 0xFFFF, VET: 0xFFFF, ITR: 0xFFFF, RCTL: 0x06DF_B3FE,
    0x170: _FULL, 0x178: _FULL, TCTL: 0x01FF_FFFA, 0x410: 0x3FFF_FFFF, 0x458: 0xFFFF, 0xE00: _FULL, PBA: 0x7F,
    0x2160: 0x8000_FFF8, 0x2168: 0xFFF8, 0x2828: _FULL, 0x3828: _FULL, 0x3830: _FULL,
    RDBAL: 0xFFFF_FFF0, RDBAL + 4: _FULL, RDBAL + 8: _RING_BYTES, RDH: 0xFFFF, RDT: 0xFFFF,
    TDBAL: 0xFFFF_FFF0, TDBAL + 4: _FULL, TDBAL + 8: _RING_BYTES, TDH: 0xFFFF, TDT: 0xFFFF,
    RDTR: 0xFFFF, RADV: 0xFFFF, TIDV: 0xFFFF, TADV: 0xFFFF, RSRPD: 0xFFF, RXCSUM: 0x7FF, 0x5820: _FULL,
    **{MTA + 4 * n: _FULL for n in range(128)}, **{VFTA + 4 * n: _FULL for n in range(128)},
    **{RA + 8 * n: _FULL for n in range(16)}, **{RA + 8 * n + 4: 0x8003_FFFF for n in range(16)},
}  # fmt: skip
"""Registers that hold what is written, and which bits of it."""

RESET = {
    CTRL: 0b10 << 8 | CTRL_FD, VET: 0x8100, PBA: PACKET_BUFFER_KB - 48 << 16 | 48, 0x178: 0xC000_01A0,
    0x410: 0x0060_200A, 0xE00: 0x0706_8302,
}  # fmt: skip
"""Values after a reset other than 0."""


def after_reset(address: bytes) -> dict[int, int]:
    """Registers that hold something; the first receive address is the one in the EEPROM."""
    registers = dict.fromkeys(WRITABLE, 0) | RESET
    registers[RA] = int.from_bytes(address[:4], "little")
    registers[RA + 4] = int.from_bytes(address[4:6], "little") | RAH_VALID
    return registers


def name_of(register: int) -> str:
    """Also of one in an array, and of what is in no table."""
    for name, first, size in (("MTA", MTA, 128), ("RA", RA, 32), ("VFTA", VFTA, 128)):
        if first <= register < first + 4 * size:
            return f"{name}[{register - first >> 2}]"
    return NAMES.get(register, f"{register:#x}")
