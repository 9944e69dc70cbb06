"""Logging in: stages, keys, CHAP, and how a target says no."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.iscsi_helpers import PORTAL, TARGET, TARGETS_OWN, USER, Node, Wire, initiator_name
from vilab.errors import AdminError
from vilab.storage.iscsi import keys
from vilab.storage.iscsi.chap import Credentials, respond
from vilab.storage.iscsi.client import MemoryLink, discover
from vilab.storage.iscsi.errors import IscsiError, LoginRefusedError
from vilab.storage.iscsi.events import IscsiLoggedIn, IscsiRefused, IscsiSessionEnded
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.keys import KEYS, Agreement
from vilab.storage.iscsi.session import Limits
from vilab.storage.iscsi.target import IscsiTarget, check_iscsi_name
from vilab.storage.iscsi.text import decode_binary

WRONG = Credentials("user", "not the secret")

# keys -----------------------------------------------------------------------------------------------------------------

AGREEMENTS = st.builds(
    Agreement,
    header_digest=st.booleans(),
    data_digest=st.booleans(),
    initial_r2t=st.booleans(),
    immediate_data=st.booleans(),
    max_burst_bytes=st.integers(512, keys.MAX_LENGTH),
    first_burst_bytes=st.integers(512, keys.MAX_LENGTH),
    max_outstanding_r2t=st.integers(1, 65535),
    wait_s=st.integers(0, 3600),
    retain_s=st.integers(0, 3600),
    pdu_in_order=st.booleans(),
    error_recovery_level=st.integers(0, 2),
)


@given(AGREEMENTS, AGREEMENTS)
def test_both_sides_agree_upon_the_same(offering: Agreement, answering: Agreement) -> None:
    here, there = Agreement(), Agreement()
    for key in KEYS.values():
        said = keys.answer(key, keys.offer(key, offering, 4096), answering, there)
        if said is not None:
            assert said != keys.REJECT
            keys.accept(key, said, offering, here)
    keys.settle(here)
    keys.settle(there)
    assert there.peer_max_data_bytes == 4096
    here.peer_max_data_bytes = 4096
    assert here == there
    assert here.first_burst_bytes <= here.max_burst_bytes <= min(offering.max_burst_bytes, answering.max_burst_bytes)
    assert here.initial_r2t == (offering.initial_r2t or answering.initial_r2t)
    assert here.wait_s == max(offering.wait_s, answering.wait_s)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MaxBurstLength", "511"), ("MaxBurstLength", "16777216"), ("InitialR2T", "yes"), ("MaxConnections", "0"),
     ("HeaderDigest", "CRC32"), ("ErrorRecoveryLevel", "x"), ("MaxRecvDataSegmentLength", "0x1FF")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_rejected_and_changes_nothing(name: str, value: str) -> None:
    agreed = Agreement()
    assert keys.answer(KEYS[name], value, Agreement(), agreed) == "Reject"
    assert agreed == Agreement()


def test_every_key_is_answered_by_its_rule() -> None:
    wire = Wire(Node())
    offered = {
        "HeaderDigest": "CRC32C,None", "DataDigest": "None,CRC32C", "MaxConnections": "8", "InitialR2T": "No",
        "ImmediateData": "Yes", "MaxBurstLength": "4096", "FirstBurstLength": "8192", "MaxOutstandingR2T": "100",
        "DefaultTime2Wait": "5", "DefaultTime2Retain": "60", "DataPDUInOrder": "No", "DataSequenceInOrder": "No",
        "ErrorRecoveryLevel": "2", "OFMarker": "Yes", "IFMarker": "No", "OFMarkInt": "1~2", "X-org.example.key": "1",
        "TaskReporting": "FastAbort,RFC3720", "MaxRecvDataSegmentLength": "65536",
    }  # fmt: skip
    answer = wire.login([*wire.names(), *offered.items()])
    assert (answer.status, answer.flags) == (0, 0x87)
    assert answer.text == {
        "TargetPortalGroupTag": "1", "HeaderDigest": "CRC32C", "DataDigest": "None", "MaxConnections": "1",
        "InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": "4096", "FirstBurstLength": "8192",
        "MaxOutstandingR2T": "8", "DefaultTime2Wait": "5", "DefaultTime2Retain": "0", "DataPDUInOrder": "Yes",
        "DataSequenceInOrder": "Yes", "ErrorRecoveryLevel": "0", "OFMarker": "No", "IFMarker": "No",
        "OFMarkInt": "Reject", "X-org.example.key": "NotUnderstood", "TaskReporting": "RFC3720",
        "MaxRecvDataSegmentLength": "262144",
    }  # fmt: skip
    agreed = wire.connection.agreed
    assert agreed.first_burst_bytes == agreed.max_burst_bytes == 4096
    assert agreed.peer_max_data_bytes == 65536


def test_a_text_may_come_in_pieces() -> None:
    wire = Wire(Node())
    names = wire.names()
    first = wire.login(names[:1], next_stage=None, more=True)
    assert (first.flags, first.data) == (0x04, b"")
    assert wire.login(names[1:]).flags == 0x87


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([("TargetName", TARGET)], 0x0207),
        ([("InitiatorName", "iqn.x")], 0x0207),
        ([("InitiatorName", "iqn.x"), ("TargetName", TARGET + "x")], 0x0203),
        ([("InitiatorName", "iqn.x"), ("SessionType", "Other")], 0x0209),
        ([("InitiatorName", "iqn.x"), ("TargetName", TARGET), ("InitiatorName", "iqn.y")], 0x0200),
        ([("InitiatorName", "iqn.x"), ("TargetName", TARGET), ("AuthMethod", "KRB5")], 0x0201),
    ],
)
def test_what_is_refused_and_how(pairs: list[tuple[str, str]], status: int) -> None:
    node = Node(keep=True)
    wire = Wire(node)
    answer = wire.login(pairs, stage=0, next_stage=1)
    assert answer.status >> 16 == status
    assert wire.connection.closing
    assert not node.iscsi.sessions
    (event,) = [e for e in node.scsi.log.events if isinstance(e, IscsiRefused)]
    assert event.status == status


def test_stages_that_do_not_follow_are_refused() -> None:
    for stage, next_stage in ((1, 0), (1, 1), (0, 2), (2, 3), (3, 3)):
        wire = Wire(Node())
        assert wire.login(wire.names(), stage, next_stage).status >> 16 == 0x0200
    wire = Wire(Node())
    assert wire.login(wire.names(), 0, 1).status == 0
    assert wire.login([], 0, 3).status >> 16 == 0x0200
    wire = Wire(Node())
    assert wire.login(wire.names(), version_min=1).status >> 16 == 0x0205


def test_a_login_that_never_ends_is_ended() -> None:
    wire = Wire(Node(limits=Limits(login_pdus=5)))
    wire.login(wire.names(), next_stage=None)
    statuses = [wire.login([], next_stage=None).status >> 16 for _ in range(5)]
    assert statuses == [0, 0, 0, 0, 0x0200]
    assert wire.connection.closing


def test_sessions_and_connections_are_limited() -> None:
    node = Node(limits=Limits(sessions=2, connections=4))
    for name in "ab":
        Wire(node, name=name).enter()
    wire = Wire(node, name="c")
    assert wire.login(wire.names()).status >> 16 == 0x0302
    Wire(node)
    assert node.iscsi.connect(PORTAL) is None


# CHAP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["5", "7"])
def test_chap_by_hand(algorithm: str) -> None:
    wire = Wire(Node(USER))
    first = wire.login([*wire.names(), ("AuthMethod", "CHAP,None")], 0, 1)
    assert (first.text["AuthMethod"], first.flags) == ("CHAP", 0)
    asked = wire.login([("CHAP_A", f"99,{algorithm}")], 0, None).text
    proof = respond(algorithm, int(asked["CHAP_I"]), USER.secret, decode_binary(asked["CHAP_C"]))
    assert asked["CHAP_A"] == algorithm
    done = wire.login([("CHAP_N", USER.user), ("CHAP_R", "0x" + proof.hex())], 0, 1)
    assert (done.status, done.flags) == (0, 0x81)
    assert wire.login([]).flags == 0x87


@pytest.mark.parametrize("said", [
    [("CHAP_N", "user"), ("CHAP_R", "0x00")], [("CHAP_N", "other"), ("CHAP_R", "0x" + "00" * 16)],
    [("CHAP_R", "nonsense")], [], [("CHAP_A", "5")],
])  # fmt: skip
def test_without_the_secret_nobody_gets_in(said: list[tuple[str, str]]) -> None:
    node = Node(USER)
    wire = Wire(node)
    wire.login([*wire.names(), ("AuthMethod", "CHAP")], 0, None)
    wire.login([("CHAP_A", "5")], 0, None)
    assert wire.login(said, 0, 3).status >> 16 in (0x0200, 0x0201)
    assert not node.iscsi.sessions


def test_chap_cannot_be_left_out() -> None:
    wire = Wire(Node(USER))
    assert wire.login(wire.names()).status >> 16 == 0x0201
    wire = Wire(Node(USER))
    assert wire.login([*wire.names(), ("AuthMethod", "None")], 0, 1).status >> 16 == 0x0201
    wire = Wire(Node(USER))
    assert wire.login(wire.names(), 0, 3).flags == 0  # no proof, no next stage


def test_initiator_and_target_prove_themselves() -> None:
    node = Node(USER, TARGETS_OWN)
    for mutual in (None, TARGETS_OWN):
        with node.lun(credentials=USER, mutual=mutual) as disk:
            disk.write(0, b"x" * 512)
    assert node.disk.content[:512] == b"x" * 512
    with pytest.raises(LoginRefusedError, match="CHAP name or secret"):
        node.session(credentials=WRONG).open()
    with pytest.raises(LoginRefusedError, match="CHAP name or secret"):
        node.session().open()
    with pytest.raises(LoginRefusedError, match="has not proved who it is"):
        node.session(credentials=USER, mutual=WRONG).open()
    assert not node.iscsi.sessions


def test_a_target_without_chap_is_no_partner_for_mutual_chap() -> None:
    with pytest.raises(IscsiError):
        Node().session(credentials=USER, mutual=TARGETS_OWN).open()
    with Node().lun(credentials=USER) as disk:
        assert disk.session.alive


def test_our_own_challenge_is_not_answered() -> None:
    wire = Wire(Node(USER, TARGETS_OWN))
    wire.login([*wire.names(), ("AuthMethod", "CHAP")], 0, None)
    asked = wire.login([("CHAP_A", "5")], 0, None).text
    proof = respond("5", int(asked["CHAP_I"]), USER.secret, decode_binary(asked["CHAP_C"]))
    said = [("CHAP_N", "user"), ("CHAP_R", "0x" + proof.hex()), ("CHAP_I", "1"), ("CHAP_C", asked["CHAP_C"])]
    assert wire.login(said, 0, 1).status >> 16 == 0x0200


def test_bad_settings_are_sentences() -> None:
    for name in ("", "iqn.", "storage", "iqn.2006-06.org example", "iqn." + "x" * 230, "foo.2006"):
        with pytest.raises(AdminError, match="is no iSCSI name"):
            check_iscsi_name(name)
    scsi = Node().scsi
    with pytest.raises(AdminError, match="must differ"):
        IscsiTarget(TARGET, scsi, (), USER, Credentials("t", USER.secret))
    with pytest.raises(AdminError, match="must ask for proof"):
        IscsiTarget(TARGET, scsi, (), None, USER)
    with pytest.raises(AdminError, match="USER:SECRET"):
        Credentials.parse("user")


# sessions -------------------------------------------------------------------------------------------------------------


def test_discovery_names_the_target_and_where_it_is() -> None:
    node = Node(USER)
    found = discover(
        lambda: MemoryLink(node.iscsi, PORTAL), InitiatorConfig(initiator_name("a"), credentials=USER)
    )  # fmt: skip
    assert found == [(TARGET, ["192.0.2.1:3260,1"])]
    assert not node.iscsi.sessions
    assert not node.scsi.nexuses


def test_a_second_login_from_one_port_ends_the_first() -> None:
    node = Node(keep=True)
    other, first = node.lun("b"), node.lun()
    first.reserve()
    second = node.session()
    second.open()
    assert len(node.iscsi.sessions) == 2
    other.write(0, bytes(512))  # the reservation went with its session
    assert not next(e for e in node.scsi.log.events if isinstance(e, IscsiLoggedIn)).reinstated
    assert [e for e in node.scsi.log.events if isinstance(e, IscsiLoggedIn)][-1].reinstated
    assert "anew" in next(e for e in node.scsi.log.events if isinstance(e, IscsiSessionEnded)).why


def test_two_ports_of_one_initiator_are_two_sessions() -> None:
    node = Node()
    one, two = node.lun(isid=b"\x80\0\0\0\0\x01"), node.lun(isid=b"\x80\0\0\0\0\x02")
    assert len(node.iscsi.sessions) == 2
    one.reserve()
    with pytest.raises(AdminError, match="another host has reserved"):
        two.write(0, bytes(512))


def test_a_wrong_secret_does_not_end_the_session_of_the_right_one() -> None:
    node = Node(USER)
    disk = node.lun(credentials=USER)
    with pytest.raises(LoginRefusedError):
        node.session(credentials=WRONG).open()
    assert disk.session.alive
    disk.session.ping()


def test_one_connection_a_session_which_may_be_taken_over() -> None:
    node = Node()
    first = Wire(node)
    first.enter()
    (tsih,) = node.iscsi.sessions
    first.command(b"\x16" + bytes(5))  # RESERVE(6)
    more = Wire(node)
    assert more.login(more.names(), tsih=tsih, cid=5).status >> 16 == 0x0206
    none = Wire(node)
    assert none.login(none.names(), tsih=tsih + 1).status >> 16 == 0x020A
    again = Wire(node)
    assert again.login(again.names(), tsih=tsih).status == 0
    assert first.connection.closing
    first.connection.lost()
    assert list(node.iscsi.sessions) == [tsih]
    assert node.scsi.units[0].state.reserved_by is not None  # the same nexus goes on
