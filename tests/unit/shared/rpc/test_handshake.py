"""``shared.rpc.handshake``: both ends prove themselves, and what one of them said is of no use anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from shared.rpc.handshake import FrontEndSide, HandshakeError, Role, Transcript, WorkerSide
from shared.rpc.messages import Call, Challenge, Hello, Ping, Welcome
from shared.secrets import FleetKey

KEY = FleetKey.from_secret("ours")
STRANGE = FleetKey.from_secret("theirs")
AT = "unix:/run/w1.sock"
N, M, OTHER = b"n" * 32, b"m" * 32, b"o" * 32
TRANSCRIPT = Transcript("w1", AT, "f1", N, M)


def worker(key: FleetKey = KEY, id: str = "w1", at: str = AT, nonce: bytes = N) -> WorkerSide:
    return WorkerSide(key, id, at, nonce)


def front_end(key: FleetKey = KEY, dialled: str = "w1", at: str = AT, nonce: bytes = M) -> FrontEndSide:
    return FrontEndSide(key, "f1", dialled, at, nonce)


def play(front: FrontEndSide, back: WorkerSide) -> None:
    """Carry each frame to where it is meant to go."""
    assert front.opening() is None
    challenge = back.opening()
    assert challenge is not None
    hello = front.received(challenge)
    assert hello is not None and not back.proven
    welcome = back.received(hello)
    assert welcome is not None and back.proven and not front.proven
    assert front.received(welcome) is None and front.proven


def test_both_ends_are_proven_at_the_end_and_the_worker_knows_who_came() -> None:
    front, back = front_end(), worker()
    play(front, back)
    assert back.frontend == "f1"


def test_nonces_are_fresh() -> None:
    challenges: list[Any] = [WorkerSide(KEY, "w1", AT).opening() for _ in range(2)]
    assert challenges[0].nonce != challenges[1].nonce
    hellos: list[Any] = [FrontEndSide(KEY, "f1", "w1", AT).received(challenges[0]) for _ in range(2)]
    assert hellos[0].nonce != hellos[1].nonce and hellos[0].proof != hellos[1].proof


# ---- keys

ROTATION = [("old", "old,new"), ("old,new", "new,old"), ("new,old", "new"), ("old", "new,old")]


@pytest.mark.parametrize("one, other", [*ROTATION, *(pair[::-1] for pair in ROTATION[:3])])
def test_processes_link_while_the_key_is_rotated(one: str, other: str) -> None:
    play(front_end(FleetKey.from_secret(one)), worker(FleetKey.from_secret(other)))


@pytest.mark.parametrize("one, other", [("ours", "theirs"), ("old", "new"), ("", "ours"), ("ours,x", "theirs,y")])
def test_another_key_is_refused(one: str, other: str) -> None:
    with pytest.raises(HandshakeError, match=r"proof is wrong.*GATEWAY_SECRET"):
        play(front_end(FleetKey.from_secret(one)), worker(FleetKey.from_secret(other)))


# ---- proofs of front ends


def proof(role: Role = Role.FRONT_END, key: FleetKey = KEY, **changes: Any) -> bytes:
    """A proof of what both ends agree about, but for ``changes``."""
    return key.proof(structs.replace(TRANSCRIPT, **changes).statement(role))


WRONG: dict[str, Callable[[Role, Role], bytes]] = {
    "nothing": lambda right, wrong: b"",
    "truncated": lambda right, wrong: proof(right)[:-1],
    "longer": lambda right, wrong: proof(right) + b"\0",
    "of the other role": lambda right, wrong: proof(wrong),
    "under another key": lambda right, wrong: proof(right, STRANGE),
    "with swapped nonces": lambda right, wrong: proof(right, worker_nonce=M, frontend_nonce=N),
    "with the worker's nonce twice": lambda right, wrong: proof(right, frontend_nonce=N),
    "replayed from another link to this worker": lambda right, wrong: proof(right, worker_nonce=OTHER),
    "replayed from another link of this front end": lambda right, wrong: proof(right, frontend_nonce=OTHER),
    "for another worker": lambda right, wrong: proof(right, worker="w2"),
    "for this worker elsewhere": lambda right, wrong: proof(right, address="unix:/tmp/fake.sock"),
    "for another front end": lambda right, wrong: proof(right, frontend="f2"),
    "of the nonce alone, as earlier builds": lambda right, wrong: KEY.proof(N),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_worker_takes_no_proof(how: str) -> None:
    back = worker()
    back.opening()
    with pytest.raises(HandshakeError, match=r"front end 'f1', and its proof is wrong.*GATEWAY_SECRET"):
        back.received(Hello("f1", WRONG[how](Role.FRONT_END, Role.WORKER), nonce=M))
    assert not back.proven


@pytest.mark.parametrize("how", WRONG)
def test_a_front_end_takes_no_proof(how: str) -> None:
    front = front_end()
    front.received(Challenge(N, "w1"))
    with pytest.raises(HandshakeError, match=r"^its proof is wrong.*GATEWAY_SECRET"):
        front.received(Welcome(WRONG[how](Role.WORKER, Role.FRONT_END)))
    assert not front.proven


def test_the_right_proofs_are_taken_in_the_place_of_these() -> None:
    back, front = worker(), front_end()
    assert back.received(Hello("f1", proof(), nonce=M)) == Welcome(proof(Role.WORKER))
    front.received(Challenge(N, "w1"))
    front.received(Welcome(proof(Role.WORKER)))
    assert back.proven and front.proven


# ---- somebody between


def test_what_a_front_end_says_to_one_worker_lets_nobody_in_at_another() -> None:
    """It was led to dial A, whose part is played by somebody who has B's challenge."""
    front, real = front_end(dialled="a"), worker(id="b")
    challenge: Any = real.opening()
    hello = front.received(Challenge(challenge.nonce, "a"))
    assert isinstance(hello, Hello)
    with pytest.raises(HandshakeError):
        real.received(hello)
    with pytest.raises(HandshakeError):
        real.received(Hello("intruder", hello.proof, nonce=hello.nonce))
    with pytest.raises(HandshakeError):
        real.received(Hello("intruder", hello.proof))
    assert not real.proven


def test_what_a_front_end_says_lets_nobody_in_at_the_same_worker_if_it_was_led_elsewhere() -> None:
    """Its record in Redis has the address of somebody else, who passes everything on."""
    front, real = front_end(at="unix:/tmp/fake.sock"), worker()
    with pytest.raises(HandshakeError):
        play(front, real)
    assert not real.proven


def test_another_worker_is_not_even_given_a_proof() -> None:
    front = front_end(dialled="a")
    with pytest.raises(HandshakeError, match="says that it is worker 'b'"):
        front.received(Challenge(N, "b"))


def test_what_was_said_is_of_no_use_the_other_way_round() -> None:
    """Somebody without a key returns to each end its own proof."""
    front, back = front_end(), worker()
    challenge: Any = back.opening()
    hello: Any = front.received(challenge)
    with pytest.raises(HandshakeError):
        front.received(Welcome(hello.proof))


# ---- frames


@pytest.mark.parametrize("head", [Welcome(b"x" * 32), Ping(1), Call(1, "up", "ping"), Hello("f1", b"")])
def test_a_worker_must_begin_with_its_challenge(head: Any) -> None:
    with pytest.raises(HandshakeError, match="where Challenge was due"):
        front_end().received(head)


@pytest.mark.parametrize("head", [Challenge(N, "w1"), Ping(1), Call(1, "up", "ping")])
def test_nothing_but_the_welcome_may_follow(head: Any) -> None:
    front = front_end()
    front.received(Challenge(N, "w1"))
    with pytest.raises(HandshakeError, match="where Welcome was due"):
        front.received(head)


@pytest.mark.parametrize("head", [Welcome(), Ping(1), Call(1, "up", "ping"), Challenge(N, "w1")])
def test_a_front_end_must_prove_itself_before_anything_else(head: Any) -> None:
    with pytest.raises(HandshakeError, match="where Hello was due"):
        worker().received(head)


@pytest.mark.parametrize("nonce", [b"", b"n", b"n" * 31, b"n" * 33])
def test_a_nonce_of_another_length_is_refused(nonce: bytes) -> None:
    with pytest.raises(HandshakeError, match="nonce"):
        front_end().received(Challenge(nonce, "w1"))
    with pytest.raises(HandshakeError, match="nonce"):
        worker().received(Hello("f1", proof(frontend_nonce=nonce), nonce=nonce))


def test_the_handshake_of_another_release_is_named() -> None:
    with pytest.raises(HandshakeError, match=r"version 1 of the handshake and this process version 2.*same release"):
        front_end().received(Challenge(N, "w1", 1))
    with pytest.raises(HandshakeError, match=r"version 1 of the handshake and this process version 2.*same release"):
        worker().received(Hello("f1", b"p" * 32, 1))


def test_names_that_anybody_chose_cannot_forge_lines_of_the_log() -> None:
    with pytest.raises(HandshakeError) as caught:
        worker().received(Hello("x\nERROR all is lost" + "y" * 4000, b"", nonce=M))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_worker_that_leaves_after_the_front_ends_proof_has_refused_it() -> None:
    front = front_end()
    assert front.ended() is None, "it is only gone"
    front.received(Challenge(N, "w1"))
    assert "GATEWAY_SECRET" in str(front.ended())
    assert worker().ended() is None, "whoever looks whether a port is open need not be mentioned"


TEXTS = st.text(max_size=5)
TRANSCRIPTS = st.builds(Transcript, TEXTS, TEXTS, TEXTS, st.binary(max_size=5), st.binary(max_size=5))


@given(TRANSCRIPTS, TRANSCRIPTS, st.sampled_from(Role), st.sampled_from(Role))
def test_no_two_transcripts_say_the_same(one: Transcript, other: Transcript, role: Role, other_role: Role) -> None:
    same = one == other and role is other_role
    assert (one.statement(role) == other.statement(other_role)) == same


def test_parts_do_not_run_into_each_other() -> None:
    one = Transcript("ab", "c", "f", b"12", b"3")
    for other in (Transcript("a", "bc", "f", b"12", b"3"), Transcript("ab", "c", "f", b"1", b"23")):
        assert one.statement(Role.WORKER) != other.statement(Role.WORKER)
