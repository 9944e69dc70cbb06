"""AMD Am79C970A, PCnet-PCI II ("vlance"): its registers.

32 bytes behind base address 0 (I/O), and the same behind base address 1 (memory). Registers are 16 bits wide; in
brackets their number, which RAP selects::

    0x0000     R  APROM         16 octets: address 0-5, 11h in 9, sum 12-13, 'WW'
    0x0010     RW RDP           data of the CSR that RAP selects; a dword written here opens DWIO
    0x0012     RW RAP           which CSR, which BCR (with DWIO at 14)
    0x0014     R  RESET         reading resets the card: S_RESET (with DWIO at 18)
    0x0016     RW BDP           data of the BCR that RAP selects (with DWIO at 1c)
    0x0010[00] RW STATUS        ERR 15, BABL CERR MISS MERR RINT TINT IDON INTR IENA RXON TXON TDMD STOP STRT, INIT 0
    0x0010[01] RW IADR_LOW      address of the initialization block 15-0; also CSR16
    0x0010[02] RW IADR_HIGH     31-16; for 16-bit structures 15-8 are bits 31-24 of all addresses; also CSR17
    0x0010[03] RW MASKS         1 switches off BABL 14 MISS 12 MERR 11 RINT 10 TINT 9 IDON 8; DXSUFLO 6
    0x0010[04] RW FEATURES      TXDPOLL 12 APAD_XMT 11 ASTRP_RCV 10 MFCO 9 UINTCMD 7 UINT 6 TXSTRT 3; masks 8 4 2 0
    0x0010[05] RW EXTENDED      TOKINTD 15 LTINTEN 14 SINT 11 SINTE 10 SPND 0
    0x0010[08] RW LADRF0        logical address filter 15-0, then CSR9 to CSR11
    0x0010[0c] RW PADR0         physical address, octets 0 and 1, then CSR13 and CSR14
    0x0010[0f] RW MODE          PROM 15 DRCVBC 14 DRCVPA 13 DLNKTST 12 INTL 6 DXMTFCS 3 LOOP 2 DTX 1 DRX 0
    0x0010[18] RW BADR          first receive descriptor 15-0, then CSR25
    0x0010[1c] R  CRDA          current receive descriptor 15-0, then CSR29
    0x0010[1e] RW BADX          first transmit descriptor 15-0, then CSR31
    0x0010[22] R  CXDA          current transmit descriptor 15-0, then CSR35
    0x0010[2f] RW POLLINT       negative number of clocks between looks at the transmit ring, 0: 65,536
    0x0010[3a] RW STYLE         the same as BCR20
    0x0010[48] RW RCVRC         which receive descriptor: from the number in CSR76 (the first) up to ffff (the last)
    0x0010[4a] RW XMTRC         which transmit descriptor, the same with CSR78
    0x0010[4c] RW RCVRL         negative number of receive descriptors
    0x0010[4e] RW XMTRL         negative number of transmit descriptors
    0x0010[50] RW FIFO          watermarks
    0x0010[58] R  CHIP_LOW      1003: manufacturer 1 (AMD), part number 3-0
    0x0010[59] R  CHIP_HIGH     0262: part number 2621, version 0
    0x0010[64] RW BUS_TIMEOUT   how long to wait for the bus before MERR
    0x0010[70] R  MISSED        frames that found no receive descriptor; MFCO when it overflows
    0x0010[72] R  COLLISIONS    receive collisions
    0x0010[7c] RW TEST          RPA 3, GPSIEN 4: held, without effect
    0x0016[02] RW MISC          LED programming 12, ASEL 1
    0x0016[04] RW LNKST         LEDOUT 15, LEDPOL 14, LEDDIS 13, PSE 7, shows link 6; c0 after a reset
    0x0016[05] RW LED1          the same, 84: receive
    0x0016[06] RW LED2          the same, 88: polarity
    0x0016[07] RW LED3          the same, 90: transmit
    0x0016[09] RW FULL_DUPLEX   FDRPAD 2, AUIFD 1, FDEN 0
    0x0016[12] RW BURST         DWIO 7 (read only), BREADE 6, BWRITE 5
    0x0016[13] R  EEPROM        2: no EEPROM answers
    0x0016[14] RW SWSTYLE       APERREN 10, CSRPCNET 9, SSIZE32 8 (both read only), SWSTYLE 7-0
    0x0016[15] RW INTCON        interrupt control
    0x0016[16] RW LATENCY       MAX_LAT 15-8, MIN_GNT 7-0, as the configuration space has them

    word mode (after a hardware reset)                    DWIO: a dword was written to 10
    | 10 RDP | 12 RAP | 14 RESET | 16 BDP |               | 10 RDP | 14 RAP | 18 RESET | 1c BDP |

    CSR0:  0004 STOP ── INIT ──> block fetched, IDON ── STRT ──> RXON, TXON ── STOP ──> 0004
                     └───────────── INIT and STRT at once ───────────┘

CSR8 to CSR15, the rings and BCR20 can be changed while the card is stopped or suspended (SPND) only.

Source: Am79C970A PCnet-PCI II data sheet (AMD 19436), "Register Summary" and "Register Descriptions".

MODEL: an access of another width than the mode's reads all ones and changes nothing; registers that are not in the
table hold what is written to them. There is no serial EEPROM behind BCR19: the address is in the APROM as if one had
been read. This chip has no MII: BCR32 to BCR34 read 0, a driver sees the link in BCR4. Left out: big-endian
memory (BSWP), look-ahead packet processing (LAPPEN), Magic Packet, sleep, parity errors, collisions and FIFO errors.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_IO = "Am79C970A data sheet, I/O resources"
_CSR = "Am79C970A data sheet, control and status registers"
_BCR = "Am79C970A data sheet, bus configuration registers"

REGISTERS = (
    Register(0x00, "R", "APROM", "16 octets: address 0-5, 11h in 9, sum 12-13, 'WW'", _IO),
    Register(0x10, "RW", "RDP", "data of the CSR that RAP selects; a dword written here opens DWIO", _IO),
    Register(0x12, "RW", "RAP", "which CSR, which BCR (with DWIO at 14)", _IO),
    Register(0x14, "R", "RESET", "reading resets the card: S_RESET (with DWIO at 18)", _IO),
    Register(0x16, "RW", "BDP", "data of the BCR that RAP selects (with DWIO at 1c)", _IO),
    Register(
        0x10, "RW", "STATUS",
        "ERR 15, BABL CERR MISS MERR RINT TINT IDON INTR IENA RXON TXON TDMD STOP STRT, INIT 0",
        _CSR, 0,
    ),
    Register(0x10, "RW", "IADR_LOW", "address of the initialization block 15-0; also CSR16", _CSR, 1),
    Register(
        0x10, "RW", "IADR_HIGH",
        "31-16; for 16-bit structures 15-8 are bits 31-24 of all addresses; also CSR17",
        _CSR, 2,
    ),
    Register(0x10, "RW", "MASKS", "1 switches off BABL 14 MISS 12 MERR 11 RINT 10 TINT 9 IDON 8; DXSUFLO 6", _CSR, 3),
    Register(
        0x10, "RW", "FEATURES",
        "TXDPOLL 12 APAD_XMT 11 ASTRP_RCV 10 MFCO 9 UINTCMD 7 UINT 6 TXSTRT 3; masks 8 4 2 0",
        _CSR, 4,
    ),
    Register(0x10, "RW", "EXTENDED", "TOKINTD 15 LTINTEN 14 SINT 11 SINTE 10 SPND 0", _CSR, 5),
    Register(0x10, "RW", "LADRF0", "logical address filter 15-0, then CSR9 to CSR11", _CSR, 8),
    Register(0x10, "RW", "PADR0", "physical address, octets 0 and 1, then CSR13 and CSR14", _CSR, 12),
    Register(
        0x10, "RW", "MODE",
        "PROM 15 DRCVBC 14 DRCVPA 13 DLNKTST 12 INTL 6 DXMTFCS 3 LOOP 2 DTX 1 DRX 0",
        _CSR, 15,
    ),
    Register(0x10, "RW", "BADR", "first receive descriptor 15-0, then CSR25", _CSR, 24),
    Register(0x10, "R", "CRDA", "current receive descriptor 15-0, then CSR29", _CSR, 28),
    Register(0x10, "RW", "BADX", "first transmit descriptor 15-0, then CSR31", _CSR, 30),
    Register(0x10, "R", "CXDA", "current transmit descriptor 15-0, then CSR35", _CSR, 34),
    Register(
        0x10, "RW", "POLLINT",
        "negative number of clocks between looks at the transmit ring, 0: 65,536",
        _CSR, 47,
    ),
    Register(0x10, "RW", "STYLE", "the same as BCR20", _CSR, 58),
    Register(
        0x10, "RW", "RCVRC",
        "which receive descriptor: from the number in CSR76 (the first) up to ffff (the last)",
        _CSR, 72,
    ),
    Register(0x10, "RW", "XMTRC", "which transmit descriptor, the same with CSR78", _CSR, 74),
    Register(0x10, "RW", "RCVRL", "negative number of receive descriptors", _CSR, 76),
    Register(0x10, "RW", "XMTRL", "negative number of transmit descriptors", _CSR, 78),
    Register(0x10, "RW", "FIFO", "watermarks", _CSR, 80),
    Register(0x10, "R", "CHIP_LOW", "1003: manufacturer 1 (AMD), part number 3-0", _CSR, 88),
    Register(0x10, "R", "CHIP_HIGH", "0262: part number 2621, version 0", _CSR, 89),
    Register(0x10, "RW", "BUS_TIMEOUT", "how long to wait for the bus before MERR", _CSR, 100),
    Register(0x10, "R", "MISSED", "frames that found no receive descriptor; MFCO when it overflows", _CSR, 112),
    Register(0x10, "R", "COLLISIONS", "receive collisions", _CSR, 114),
    Register(0x10, "RW", "TEST", "RPA 3, GPSIEN 4: held, without effect", _CSR, 124),
    Register(0x16, "RW", "MISC", "LED programming 12, ASEL 1", _BCR, 2),
    Register(0x16, "RW", "LNKST", "LEDOUT 15, LEDPOL 14, LEDDIS 13, PSE 7, shows link 6; c0 after a reset", _BCR, 4),
    Register(0x16, "RW", "LED1", "the same, 84: receive", _BCR, 5),
    Register(0x16, "RW", "LED2", "the same, 88: polarity", _BCR, 6),
    Register(0x16, "RW", "LED3", "the same, 90: transmit", _BCR, 7),
    Register(0x16, "RW", "FULL_DUPLEX", "FDRPAD 2, AUIFD 1, FDEN 0", _BCR, 9),
    Register(0x16, "RW", "BURST", "DWIO 7 (read only), BREADE 6, BWRITE 5", _BCR, 18),
    Register(0x16, "R", "EEPROM", "2: no EEPROM answers", _BCR, 19),
    Register(0x16, "RW", "SWSTYLE", "APERREN 10, CSRPCNET 9, SSIZE32 8 (both read only), SWSTYLE 7-0", _BCR, 20),
    Register(0x16, "RW", "INTCON", "interrupt control", _BCR, 21),
    Register(0x16, "RW", "LATENCY", "MAX_LAT 15-8, MIN_GNT 7-0, as the configuration space has them", _BCR, 22),
)  # fmt: skip

VENDOR, DEVICE, REVISION, CLASS_ETHERNET = 0x1022, 0x2000, 0x10, 0x020000
SUBSYSTEM = (0x1022, 0x2000)
"""As VMware's virtual machines have it."""
WINDOW_BYTES = 32
CSRS, BCRS = 128, 64
RAP_BITS = CSRS - 1

APROM, RDP, RAP, RESET, BDP = range(5)
WORD_MODE = {0x10: RDP, 0x12: RAP, 0x14: RESET, 0x16: BDP}
DWORD_MODE = {0x10: RDP, 0x14: RAP, 0x18: RESET, 0x1C: BDP}
HARDWARE_ID = 0x11
"""In octet 9 of the APROM: PCI."""

# CSR0
ERROR, BABL, CERR, MISS, MERR, RINT, TINT, IDON = (1 << bit for bit in range(15, 7, -1))
INTR, IENA, RXON, TXON, TDMD, STOP, STRT, INIT = (1 << bit for bit in range(7, -1, -1))
ERRORS = BABL | CERR | MISS | MERR
CLEARED_BY_ONES = 0x7F00
CAUSES = 0x5F00
"""All of them interrupt, but for CERR."""

# CSR3, CSR4, CSR5
MASKS_WRITABLE, DXSUFLO = 0x5F7C, 1 << 6
TXDPOLL, APAD_XMT, ASTRP_RCV, MFCO, UINTCMD, UINT, TXSTRT = 1 << 12, 1 << 11, 1 << 10, 1 << 9, 1 << 7, 1 << 6, 1 << 3
FEATURES_WRITABLE, FEATURES_CLEARED_BY_ONES, FEATURES_MASKED = 0xDD15, 0x026A, 0x0115
"""The mask of a cause in CSR4 is the bit to its right; UINT has none."""
TOKINTD, LTINTEN, SINT, SPND = 1 << 15, 1 << 14, 1 << 11, 1 << 0
EXTENDED_WRITABLE, EXTENDED_CLEARED_BY_ONES, EXTENDED_ENABLES = 0xC56E, 0x0A90, 0x0548
"""The enable of a cause in CSR5 is the bit to its right."""

# CSR15
PROM, DRCVBC, DRCVPA, DLNKTST, DXMTFCS, LOOP, DTX, DRX = (
    1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 3, 1 << 2, 1 << 1, 1 << 0,
)  # fmt: skip

LADRF, PADR, MODE, BADR, CRDA, BADX, CXDA, POLLINT = 8, 12, 15, 24, 28, 30, 34, 47
STYLE, RCVRC, XMTRC, RCVRL, XMTRL, MISSED, COLLISIONS = 58, 72, 74, 76, 78, 112, 114
CHIP_LOW, CHIP_HIGH = 88, 89
READ_ONLY = frozenset({CRDA, CRDA + 1, CXDA, CXDA + 1, CHIP_LOW, CHIP_HIGH, MISSED, COLLISIONS})
CSR_RESET = {
    0: STOP, 4: 0x0115, RCVRC: 0xFFFF, XMTRC: 0xFFFF, RCVRL: 0xFFFF, XMTRL: 0xFFFF, 80: 0x1410, CHIP_LOW: 0x1003,
    CHIP_HIGH: 0x0262, 100: 0x0200,
}  # fmt: skip

MISC, LNKST, LED3, FULL_DUPLEX, BURST, EEPROM, SWSTYLE, LATENCY = 2, 4, 7, 9, 18, 19, 20, 22
LED_PROGRAMMING, LEDOUT, SHOWS_LINK = 1 << 12, 1 << 15, 1 << 6
DWIO = 1 << 7
CSRPCNET, SSIZE32, APERREN = 1 << 9, 1 << 8, 1 << 10
STYLE_BITS = {0: CSRPCNET, 1: SSIZE32, 2: CSRPCNET | SSIZE32, 3: CSRPCNET | SSIZE32}
BCR_RESET = {
    0: 0x0005, 1: 0x0005, MISC: 0x0002, LNKST: 0x00C0, 5: 0x0084, 6: 0x0088, LED3: 0x0090, BURST: 0x9001,
    EEPROM: 0x0002, SWSTYLE: CSRPCNET, LATENCY: 0xFF06,
}  # fmt: skip
BCR_WRITABLE = {
    MISC: 0x510B, LNKST: 0x7FFF, 5: 0x7FFF, 6: 0x7FFF, LED3: 0x7FFF, FULL_DUPLEX: 0x0007, BURST: 0xF37F, 21: 0xFFFF,
    LATENCY: 0xFFFF,
}  # fmt: skip

RECEIVED_MASTER_ABORT = 1 << 13
"""In the PCI status register: an address led nowhere."""
