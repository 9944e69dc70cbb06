"""What a target answers at a LUN where there is no unit (SPC-4, 6.6.2 and 6.35; SAM-4, 5.11).

INQUIRY says "no device here" with GOOD, REPORT LUNS lists those that are there, REQUEST SENSE hands over 25/00 as data;
everything else ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.inquiry import NO_UNIT, lun_list, standard
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import ScsiError, Sense, SenseKey, Status, illegal
from vilab.storage.scsi.state import Identity

NOT_THERE = Sense(SenseKey.ILLEGAL_REQUEST, 0x2500)


def execute_without_unit(cdb: bytes, luns: Sequence[int]) -> Response:
    try:
        return Response(Status.GOOD, _answer(cdb, luns))
    except ScsiError as error:
        return Response(error.status, b"", error.sense, error.sense.fixed() if error.sense else b"")


def _answer(cdb: bytes, luns: Sequence[int]) -> bytes:
    if cdb[:1] not in (b"\x03", b"\x12", b"\xa0"):
        raise illegal(NOT_THERE.code)
    decoded = decode(cdb)
    if cdb[0] == 0xA0:
        return lun_list(decoded, luns)
    if cdb[0] == 0x03:
        data = NOT_THERE.descriptor() if decoded.value("desc") else NOT_THERE.fixed()
    elif decoded.value("evpd"):
        raise illegal(NOT_THERE.code)
    elif decoded.value("page"):
        raise decoded.refuse("page")
    else:
        data = standard(Identity("", "", "", ""), NO_UNIT)
    return data[: decoded.value("allocation")]
