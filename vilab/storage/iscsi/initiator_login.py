"""The initiator's side of a login (RFC 7143, section 6): what to say next, given what the target has said.

::

    names, AuthMethod ──> AuthMethod ──CHAP──> CHAP_A ──> CHAP_A CHAP_I CHAP_C ──> CHAP_N CHAP_R ──┐
                             └──None────────────────────────────────────────────────────────────┐  │
                                                   operational: every key of ``keys`` <───┴──┘ ──> done
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import msgspec

from vilab.storage.iscsi import keys
from vilab.storage.iscsi.chap import Challenger, Credentials, choose_algorithm, prove
from vilab.storage.iscsi.errors import REFUSALS, LoginRefusedError
from vilab.storage.iscsi.keys import KEYS, NOT_UNDERSTOOD, Agreement
from vilab.storage.iscsi.layout import (
    CONTINUE,
    FULL_FEATURE,
    HEADER,
    IMMEDIATE,
    OPERATIONAL,
    SECURITY,
    TRANSIT,
    LoginStatus,
    Opcode,
)
from vilab.storage.iscsi.text import TextCollector, TextError, encode_text

MAX_PDUS = 16
SILENT_KEYS = frozenset({"TargetPortalGroupTag", "TargetAlias", "TargetAddress", "TargetName"})

Pairs = list[tuple[str, str]]


class InitiatorConfig(msgspec.Struct, frozen=True):
    """Who logs in, and where. ``target`` is ``None`` to ask a portal for its targets.

    ``isid`` is 6 bytes; by default they are made from the names, so that one initiator has one session with a target.
    ``mutual`` is what the target has to prove. ``data_bytes``: received in one PDU.
    """

    initiator: str
    target: str | None = None
    credentials: Credentials | None = None
    mutual: Credentials | None = None
    header_digest: bool = False
    data_digest: bool = False
    isid: bytes = b""
    data_bytes: int = 262144

    @property
    def port_isid(self) -> bytes:
        """Format "random" (0x80) of 11.12.5."""
        if self.isid:
            return self.isid
        name = f"{self.initiator} {self.target}".encode()
        return b"\x80" + hashlib.sha256(name).digest()[:5]

    def offered(self) -> Agreement:
        return Agreement(
            header_digest=self.header_digest,
            data_digest=self.data_digest,
            initial_r2t=False,
            max_burst_bytes=1 << 20,
            max_outstanding_r2t=8,
            retain_s=0,
        )


class InitiatorLogin:
    """``step`` takes each response and gives the next request, until ``done``.

    Raises ``LoginRefusedError`` when the target says no, and ``TextError`` when it says nonsense.
    """

    def __init__(self, config: InitiatorConfig, random: Callable[[int], bytes] = os.urandom) -> None:
        self.config = config
        self.agreed = Agreement()
        self.tsih = 0
        self.done = False
        self.stat_sn = 0
        self._random = random
        self._ours = config.offered()
        self._stage = SECURITY
        self._offered: list[str] = []
        self._algorithm = ""
        self._challenger: Challenger | None = None
        self._proof_sent = False
        self._proof_seen = False
        self._collector = TextCollector()
        self._pdus = 0

    def start(self) -> tuple[bytes, bytes]:
        config = self.config
        pairs = [("InitiatorName", config.initiator)]
        if config.target is None:
            pairs.append(("SessionType", "Discovery"))
        else:
            pairs += [("SessionType", "Normal"), ("TargetName", config.target)]
        method = "None" if config.credentials is None else "CHAP" if config.mutual else "CHAP,None"
        pairs.append(("AuthMethod", method))
        return self._request(pairs, transit=config.credentials is None)

    def _request(self, pairs: Pairs, transit: bool) -> tuple[bytes, bytes]:
        self._pdus += 1
        if self._pdus > MAX_PDUS:
            raise TextError("a login that does not come to an end")
        text = encode_text(pairs)
        next_stage = OPERATIONAL if self._stage == SECURITY else FULL_FEATURE
        flags = TRANSIT | self._stage << 2 | next_stage if transit else self._stage << 2
        header = HEADER.pack(
            Opcode.LOGIN_REQUEST | IMMEDIATE, flags, 0, 0, len(text),
            self.config.port_isid + self.tsih.to_bytes(2, "big"), 0, 0, 1, self.stat_sn, 0, 0, 0, 0,
        )  # fmt: skip
        return header, text

    def step(self, header: bytes, data: bytes) -> tuple[bytes, bytes] | None:
        """``None`` once the login is done."""
        _, flags, _, _, _, ids, _, _, stat_sn, _, _, status, *_ = HEADER.unpack(header)
        self.stat_sn = (stat_sn + 1) & 0xFFFF_FFFF
        status >>= 16
        if status != LoginStatus.SUCCESS:
            name = self.config.target or "The portal"
            why = REFUSALS.get(status, f"login status {status:04x}")
            raise LoginRefusedError(status, f"{name} refuses the login of {self.config.initiator}: {why}.")
        if flags >> 2 & 3 != self._stage:
            raise TextError("a login stage that does not follow")
        pairs = self._collector.add(data, bool(flags & CONTINUE))
        if pairs is None:
            return self._request([], transit=False)
        said = dict(pairs)
        if self._stage == SECURITY:
            answers, ready = self._security(said)
        else:
            answers, ready = [], True
        answers += self._operational(pairs)
        if flags & TRANSIT and not answers:
            return self._next_stage(flags & 3, int.from_bytes(ids[6:], "big"))
        return self._request(answers, transit=ready)

    def _next_stage(self, stage: int, tsih: int) -> tuple[bytes, bytes] | None:
        if self.config.mutual is not None and not self._proof_seen:
            raise LoginRefusedError(0x0201, f"{self.config.target} has not proved who it is; the login was broken off.")
        if self.config.mutual is None and self._challenger is not None:
            raise TextError("CHAP out of order")
        if stage == FULL_FEATURE and self._stage == OPERATIONAL:
            keys.settle(self.agreed)
            self.tsih = tsih
            self.done = True
            return None
        if stage != OPERATIONAL or self._stage != SECURITY:
            raise TextError("a login stage that does not follow")
        self._stage = OPERATIONAL
        discovery = self.config.target is None
        wanted = [key for key in KEYS.values() if not (discovery and key.session)]
        self._offered = [key.name for key in wanted]
        return self._request(
            [(k.name, keys.offer(k, self._ours, self.config.data_bytes)) for k in wanted], transit=True
        )

    def _security(self, said: dict[str, str]) -> tuple[Pairs, bool]:
        """What to answer, and whether this side is through with security then."""
        config = self.config
        if self._proof_sent:
            if self._challenger is not None and config.mutual is not None and not self._proof_seen:
                self._proof_seen = self._challenger.convinced_by(config.mutual, said)
            return [], True
        if "CHAP_C" in said and config.credentials is not None and self._algorithm == "asked":
            algorithm = choose_algorithm(said.get("CHAP_A", ""))
            if algorithm is None:
                raise TextError("a CHAP algorithm that was not offered")
            self._algorithm, self._proof_sent = algorithm, True
            answers = prove(algorithm, config.credentials, said)
            if config.mutual is not None:
                self._challenger = Challenger(algorithm, self._random)
                answers += self._challenger.ask()
            return answers, True
        method = said.get("AuthMethod")
        if method == "CHAP" and config.credentials is not None and not self._algorithm:
            self._algorithm = "asked"
            return [("CHAP_A", "5,7")], False  # MD5 first: some targets give up at a number that they do not know
        if method in ("None", None) and config.mutual is None and not self._algorithm:
            return [], True
        raise TextError(f"AuthMethod {str(method)[:40]!r}, which was not offered")

    def _operational(self, pairs: Pairs) -> Pairs:
        """Take the target's answers; answer what it asks itself."""
        answers: Pairs = []
        for name, value in pairs:
            if name in SILENT_KEYS or name.startswith("CHAP_") or name == "AuthMethod":
                continue
            key = KEYS.get(name)
            if key is not None and name in self._offered:
                if value not in (NOT_UNDERSTOOD, keys.REJECT):
                    keys.accept(key, value, self._ours, self.agreed)
            elif key is not None:
                said = keys.answer(key, value, self._ours, self.agreed)
                answers += [] if said is None else [(name, said)]
            else:
                answers.append((name, NOT_UNDERSTOOD))
        return answers
