"""The target's side of a login (RFC 7143, section 6).

::

    stage       PDUs                                                     left by
    security    names, AuthMethod, CHAP_A, CHAP_R                        T with NSG 1 or 3, once the proof has come
    operational the keys of ``keys``, MaxRecvDataSegmentLength     T with NSG 3
    full feature                                                         (``connection``)

The initiator leads: each of its PDUs gets one answer, and the stage changes when it sets T and we agree. A status other
than SUCCESS ends the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.storage.iscsi import keys
from vilab.storage.iscsi.chap import Challenger, choose_algorithm, prove
from vilab.storage.iscsi.keys import KEYS, NOT_UNDERSTOOD, Agreement
from vilab.storage.iscsi.layout import (
    CONTINUE,
    FULL_FEATURE,
    HEADER,
    OPERATIONAL,
    SECURITY,
    TRANSIT,
    LoginStatus,
    Opcode,
)
from vilab.storage.iscsi.session import LoginRequest, Numbers, Portal, Session
from vilab.storage.iscsi.text import TextCollector, TextError, encode_text

if TYPE_CHECKING:
    from vilab.storage.iscsi.connection import TargetConnection
    from vilab.storage.iscsi.target import IscsiTarget

DECLARATIONS = frozenset({"InitiatorName", "InitiatorAlias", "TargetName", "SessionType"})
SECURITY_KEYS = frozenset({"AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"})

Pairs = list[tuple[str, str]]


class LoginRefused(Exception):
    """The login ends here. Never leaves the state machine."""

    def __init__(self, status: LoginStatus, why: str) -> None:
        self.status = status
        super().__init__(why)


class TargetLogin:
    """One login from its first PDU to ``session``, or to ``refused``."""

    def __init__(self, node: IscsiTarget, portal: Portal, connection: TargetConnection, numbers: Numbers) -> None:
        self.node = node
        self.connection = connection
        self.numbers = numbers
        self.request = LoginRequest(group=portal.group)
        self.agreed = Agreement()
        self.session: Session | None = None
        self.refused: LoginRefused | None = None
        self._stage: int | None = None
        self._names_known = False
        self._authenticated = node.credentials is None
        self._algorithm: str | None = None
        self._challenger: Challenger | None = None
        self._collector = TextCollector()
        self._seen: set[str] = set()
        self._declared = False
        self._pdus = 0

    def step(self, header: bytes, data: bytes) -> tuple[bytes, bytes]:
        """One request, one response."""
        _, flags, _, version_min, _, ids, itt, second, cmd_sn, exp_stat_sn, *_ = HEADER.unpack(header)
        if self._stage is None:
            self.request.isid, self.request.tsih = ids[:6], int.from_bytes(ids[6:], "big")
            self.request.cid = second >> 16
            self.numbers.exp_cmd_sn = cmd_sn
            self.numbers.max_cmd_sn = (cmd_sn - 1) & 0xFFFF_FFFF
            self.numbers.open_window(self.node.limits.commands)
            self.numbers.stat_sn = exp_stat_sn
        try:
            answer, text = self._step(flags, version_min, ids, data)
            status = LoginStatus.SUCCESS
        except TextError as error:
            self.refused = LoginRefused(LoginStatus.INITIATOR_ERROR, str(error))
        except LoginRefused as refused:
            self.refused = refused
        if self.refused is not None:
            answer, text, status = flags & 0x0C, b"", self.refused.status
        tsih = self.request.tsih if self.session is None else self.session.tsih
        numbers = self.numbers
        response = HEADER.pack(
            Opcode.LOGIN_RESPONSE, answer, 0, 0, len(text), self.request.isid + tsih.to_bytes(2, "big"), itt, 0,
            numbers.next_stat_sn(), numbers.exp_cmd_sn, numbers.max_cmd_sn, status << 16, 0, 0,
        )  # fmt: skip
        return response, text

    def _step(self, flags: int, version_min: int, ids: bytes, data: bytes) -> tuple[int, bytes]:
        stage, next_stage = flags >> 2 & 3, flags & 3
        self._pdus += 1
        if version_min > 0:
            raise LoginRefused(LoginStatus.UNSUPPORTED_VERSION, "only version 0 is spoken here")
        if self._pdus > self.node.limits.login_pdus:
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "the login does not come to an end")
        self._check_stage(flags, stage, next_stage, ids)
        pairs = self._collector.add(data, bool(flags & CONTINUE))
        if pairs is None:
            return stage << 2, b""
        answers = self._answer(stage, pairs)
        if not flags & TRANSIT or not self._authenticated:
            return stage << 2, encode_text(answers)
        self._stage = next_stage
        if next_stage == FULL_FEATURE:
            self._finish()
        return TRANSIT | stage << 2 | next_stage, encode_text(answers)

    def _check_stage(self, flags: int, stage: int, next_stage: int, ids: bytes) -> None:
        if self._stage is None:
            self._stage = stage
        transit_fits = not flags & TRANSIT or (stage < next_stage != 2 and not flags & CONTINUE)
        if stage != self._stage or stage not in (SECURITY, OPERATIONAL) or not transit_fits:
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "the stages are out of order")
        if ids[:6] != self.request.isid or int.from_bytes(ids[6:], "big") != self.request.tsih:
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "ISID or TSIH has changed")
        if stage == OPERATIONAL and not self._authenticated:
            raise LoginRefused(LoginStatus.AUTHENTICATION_FAILED, "CHAP is needed, and there was none")

    def _answer(self, stage: int, pairs: Pairs) -> Pairs:
        said = dict(pairs)
        if len(said) != len(pairs) or not self._seen.isdisjoint(said):
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "a key was negotiated twice")
        self._seen.update(said)
        answers: Pairs = []
        if not self._names_known:
            self._take_names(said)
            if not self.request.discovery:
                answers.append(("TargetPortalGroupTag", str(self.request.group)))
        if stage == SECURITY:
            answers += self._security(said)
        for key, value in pairs:
            if key not in DECLARATIONS and key not in SECURITY_KEYS:
                answers += self._operational(key, value)
        if stage == OPERATIONAL and not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(self.node.limits.data_bytes)))
        return answers

    def _take_names(self, said: dict[str, str]) -> None:
        """What the first PDU has to say (6.3.1)."""
        self._names_known = True
        kind = said.get("SessionType", "Normal")
        if kind not in ("Normal", "Discovery"):
            raise LoginRefused(LoginStatus.SESSION_TYPE, "there is no such session type")
        self.request.discovery = kind == "Discovery"
        self.request.initiator = said.get("InitiatorName", "")
        if not self.request.initiator or len(self.request.initiator) > 223:
            raise LoginRefused(LoginStatus.MISSING_PARAMETER, "InitiatorName is missing")
        if self.request.discovery:
            return
        if "TargetName" not in said:
            raise LoginRefused(LoginStatus.MISSING_PARAMETER, "TargetName is missing")
        if said["TargetName"].lower() != self.node.name.lower():
            raise LoginRefused(LoginStatus.NOT_FOUND, "there is no target of that name")

    def _operational(self, name: str, value: str) -> Pairs:
        if name in keys.OBSOLETE:
            return [(name, keys.OBSOLETE[name])]
        if name in keys.SINCE_3720:
            return [(name, keys.SINCE_3720[name])]
        key = KEYS.get(name)
        if key is None:
            return [(name, NOT_UNDERSTOOD)]
        if key.session and self.request.discovery:
            return [(name, keys.IRRELEVANT)]
        said = keys.answer(key, value, self.node.offered(), self.agreed)
        return [] if said is None else [(name, said)]

    # security --------------------------------------------------------------------------------------------------------

    def _security(self, said: dict[str, str]) -> Pairs:
        if self._challenger is not None:
            return self._check_proof(said)
        if self._algorithm is None and "AuthMethod" in said:
            return self._choose_method(said["AuthMethod"].split(","))
        if "CHAP_A" in said and self._algorithm == "":
            self._algorithm = choose_algorithm(said["CHAP_A"])
            if self._algorithm is None:
                raise LoginRefused(LoginStatus.AUTHENTICATION_FAILED, "no CHAP algorithm in common")
            self._challenger = Challenger(self._algorithm, self.node.random)
            return [("CHAP_A", self._algorithm), *self._challenger.ask()]
        if not SECURITY_KEYS.isdisjoint(said):
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "CHAP out of order")
        return []

    def _choose_method(self, offered: list[str]) -> Pairs:
        wanted = "None" if self.node.credentials is None else "CHAP"
        if wanted not in offered:
            raise LoginRefused(LoginStatus.AUTHENTICATION_FAILED, f"AuthMethod {wanted} is needed")
        if wanted == "CHAP":
            self._algorithm = ""
        return [("AuthMethod", wanted)]

    def _check_proof(self, said: dict[str, str]) -> Pairs:
        challenger, node = self._challenger, self.node
        if challenger is None or node.credentials is None or self._algorithm is None or self._authenticated:
            raise LoginRefused(LoginStatus.INITIATOR_ERROR, "CHAP out of order")
        if not challenger.convinced_by(node.credentials, said):
            raise LoginRefused(LoginStatus.AUTHENTICATION_FAILED, "the CHAP name or secret is wrong")
        self._authenticated = True
        if "CHAP_I" not in said and "CHAP_C" not in said:
            return []
        if node.mutual is None:
            raise LoginRefused(LoginStatus.AUTHENTICATION_FAILED, "this target has no secret to prove itself with")
        return prove(self._algorithm, node.mutual, said, challenger.challenge)

    def _finish(self) -> None:
        keys.settle(self.agreed)
        session = self.node.admit(self.request, self.connection)
        if isinstance(session, LoginStatus):
            raise LoginRefused(session, "the session cannot be had")
        session.cid = self.request.cid
        self.session = session
