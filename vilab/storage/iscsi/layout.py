"""iSCSI on the wire: the datasheet (RFC 7143, section 11).

A PDU is a header of 48 bytes, then what the header says, in this order::

    | basic header 48 | additional headers 4*n | header digest 4 | data, padded to 4 | data digest 4 |
       BHS               AHS                     if negotiated                          if negotiated, and data

The header, big endian. Bytes 16 to 47 are eight words in every kind of PDU::

    byte   0       1      2     3      4   5-7   8-15     16  20    24     28        32        36        40     44
    00 NOP-Out     80                  AHS bytes LUN      ITT TTT   CmdSN  ExpStatSN
    01 Command     FRWattr             AHS bytes LUN      ITT EDTL  CmdSN  ExpStatSN CDB .......................
    02 Task mgmt   80+function                   LUN      ITT tag   CmdSN  ExpStatSN RefCmdSN  ExpDataSN
    03 Login       TC,stages max min   AHS bytes ISID,TSIH ITT CID  CmdSN  ExpStatSN
    04 Text        FC                  AHS bytes LUN      ITT TTT   CmdSN  ExpStatSN
    05 Data-Out    F                   AHS bytes LUN      ITT TTT          ExpStatSN           DataSN    offset
    06 Logout      80+reason                              ITT CID   CmdSN  ExpStatSN
    20 NOP-In      80                      bytes LUN      ITT TTT   StatSN ExpCmdSN  MaxCmdSN
    21 Response    80,o,u resp. status     bytes          ITT SNACK StatSN ExpCmdSN  MaxCmdSN  ExpDataSN bidi   resid.
    22 Task mgmt   80     resp.                           ITT       StatSN ExpCmdSN  MaxCmdSN
    23 Login       TC,stages max act.      bytes ISID,TSIH ITT      StatSN ExpCmdSN  MaxCmdSN  status
    24 Text        FC                      bytes LUN      ITT TTT   StatSN ExpCmdSN  MaxCmdSN
    25 Data-In     F,o,u,S      status     bytes LUN      ITT TTT   StatSN ExpCmdSN  MaxCmdSN  DataSN    offset resid.
    26 Logout      80     resp.                           ITT       StatSN ExpCmdSN  MaxCmdSN            waits
    31 R2T         80                            LUN      ITT TTT   StatSN ExpCmdSN  MaxCmdSN  R2TSN     offset length
    32 Async       80                      bytes LUN      -         StatSN ExpCmdSN  MaxCmdSN  event     parameters
    3f Reject      80     reason           bytes          -         StatSN ExpCmdSN  MaxCmdSN  DataSN

Byte 0 also has 0x40 for "immediate": the PDU does not take a CmdSN of its own. Tags: ITT is the initiator's name for a
task, TTT the target's; 0xffffffff is no tag.
"""

from __future__ import annotations

import struct
from enum import IntEnum

HEADER = struct.Struct(">4BI8s8I")
"""byte 0, 1, 2, 3; AHS and data length; LUN; the eight words."""
HEADER_BYTES = 48
NO_TAG = 0xFFFF_FFFF
IMMEDIATE = 0x40
FINAL = 0x80
READ, WRITE = 0x40, 0x20
"""Byte 1 of a SCSI command: which way the data goes."""
TRANSIT, CONTINUE = 0x80, 0x40
"""Byte 1 of login (both) and text (``CONTINUE``)."""
OVERFLOW, UNDERFLOW, WITH_STATUS = 0x04, 0x02, 0x01
"""Byte 1 of responses and Data-In: how the residual count is meant; the status is in this Data-In."""
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
"""Stages of a login: CSG, NSG."""
LENGTH_MASK = 0xFF_FFFF

ISCSI_PORT = 3260


class Opcode(IntEnum):
    """RFC 7143, 11.2.1.2."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


class LoginStatus(IntEnum):
    """Class << 8 | detail (11.13.5)."""

    SUCCESS = 0x0000
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILED = 0x0201
    NOT_ALLOWED = 0x0202
    NOT_FOUND = 0x0203
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    CANNOT_INCLUDE_IN_SESSION = 0x0208
    SESSION_TYPE = 0x0209
    NO_SUCH_SESSION = 0x020A
    INVALID_DURING_LOGIN = 0x020B
    TARGET_ERROR = 0x0300
    UNAVAILABLE = 0x0301
    OUT_OF_RESOURCES = 0x0302


class TaskCode(IntEnum):
    """Task management functions (11.5.1; 9 to 12 are RFC 7144's)."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8
    QUERY_TASK = 9
    NEXUS_RESET = 11


class TaskResult(IntEnum):
    """Answers to them (11.6.1)."""

    COMPLETE = 0
    NO_TASK = 1
    NO_UNIT = 2
    REASSIGN_NOT_SUPPORTED = 4
    NOT_SUPPORTED = 5
    SUCCEEDED = 7
    REJECTED = 255


class RejectReason(IntEnum):
    """Why a PDU is not acted upon (11.17.1)."""

    DATA_DIGEST = 0x02
    SNACK = 0x03
    PROTOCOL_ERROR = 0x04
    NOT_SUPPORTED = 0x05
    TOO_MANY_IMMEDIATE = 0x06
    INVALID_FIELD = 0x09
    OUT_OF_RESOURCES = 0x0A


class AsyncEvent(IntEnum):
    """What a target says unasked (11.9.1)."""

    SCSI_EVENT = 0
    LOGOUT_REQUESTED = 1
    DROPS_CONNECTION = 2
    DROPS_ALL_CONNECTIONS = 3
    NEGOTIATION_REQUESTED = 4


WORDS: dict[int, tuple[str, ...]] = {
    Opcode.NOP_OUT: ("itt", "ttt", "cmd_sn", "exp_stat_sn"),
    Opcode.SCSI_COMMAND: ("itt", "edtl", "cmd_sn", "exp_stat_sn"),
    Opcode.TASK_REQUEST: ("itt", "ref_tag", "cmd_sn", "exp_stat_sn", "ref_cmd_sn"),
    Opcode.LOGIN_REQUEST: ("itt", "cid", "cmd_sn", "exp_stat_sn"),
    Opcode.TEXT_REQUEST: ("itt", "ttt", "cmd_sn", "exp_stat_sn"),
    Opcode.DATA_OUT: ("itt", "ttt", "", "exp_stat_sn", "", "data_sn", "offset"),
    Opcode.LOGOUT_REQUEST: ("itt", "cid", "cmd_sn", "exp_stat_sn"),
    Opcode.NOP_IN: ("itt", "ttt", "stat_sn", "exp_cmd_sn", "max_cmd_sn"),
    Opcode.SCSI_RESPONSE: ("itt", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "exp_data_sn", "", "residual"),
    Opcode.TASK_RESPONSE: ("itt", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn"),
    Opcode.LOGIN_RESPONSE: ("itt", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "status"),
    Opcode.TEXT_RESPONSE: ("itt", "ttt", "stat_sn", "exp_cmd_sn", "max_cmd_sn"),
    Opcode.DATA_IN: ("itt", "ttt", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "data_sn", "offset", "residual"),
    Opcode.LOGOUT_RESPONSE: ("itt", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn"),
    Opcode.R2T: ("itt", "ttt", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "r2t_sn", "offset", "length"),
    Opcode.ASYNC_MESSAGE: ("", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "event"),
    Opcode.REJECT: ("", "", "stat_sn", "exp_cmd_sn", "max_cmd_sn", "data_sn"),
}
"""The names of the eight words, as in the picture above."""
