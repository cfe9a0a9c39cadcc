"""Who may ask, from Secrets and policies alone."""

from __future__ import annotations

import hashlib

from npc_operator.api.npcregion import KeyPolicy, ServiceAccounts
from npc_operator.domain.callers import build_identity, derive_salt, hash_api_keys
from npc_operator.domain.facts import IssuerFact
from npc_runtime.wire import Rate


def test_api_keys_are_hashed_without_their_white_space() -> None:
    keys = hash_api_keys({"b": " two\n", "a": "one", "empty": " \n"})
    assert [(key.name, key.sha256) for key in keys] == [
        ("a", hashlib.sha256(b"one").hexdigest()),
        ("b", hashlib.sha256(b"two").hexdigest()),
    ]


def test_a_key_may_do_what_its_policy_says_and_one_without_may_do_everything() -> None:
    policy = KeyPolicy.model_validate(
        {
            "name": "quest",
            "archetypes": ["vampire"],
            "tiers": ["gold"],
            "expiresAt": "2026-12-01T00:00:00Z",
            "rate": {"requestsPerSecond": 5, "burst": 7},
            "separateCache": True,
        }
    )
    game, quest = hash_api_keys({"quest": "a", "game": "b"}, [policy], salt="s3cr3t")
    assert (quest.archetypes, quest.tiers, quest.expires_ms) == (("vampire",), ("gold",), 1_796_083_200_000)
    assert quest.rate == Rate(requests_per_second=5, burst=7)
    assert (game.archetypes, game.tiers, game.expires_ms, game.cache_salt, game.rate) == ((), (), None, None, None)


def test_an_end_that_cannot_be_read_has_passed() -> None:
    policy = KeyPolicy.model_validate({"name": "quest", "expiresAt": "at the end of the season"})
    assert hash_api_keys({"quest": "a"}, [policy])[0].expires_ms == 0


def test_a_salt_is_the_same_for_as_long_as_our_secret_is_and_another_for_every_key() -> None:
    policies = [KeyPolicy.model_validate({"name": name, "separateCache": True}) for name in ("a", "b")]
    one, other = hash_api_keys({"a": "first", "b": "second"}, policies, salt="s3cr3t")
    again, _ = hash_api_keys({"a": "rotated", "b": "second"}, policies, salt="s3cr3t")
    assert one.cache_salt is not None
    assert one.cache_salt == again.cache_salt == derive_salt("s3cr3t", "a")
    assert one.cache_salt != other.cache_salt
    assert derive_salt("another", "a") != one.cache_salt
    assert one.cache_salt.get_secret_value() not in repr(one)


def test_callers_of_the_cluster_are_let_in_only_with_known_keys() -> None:
    accounts = ServiceAccounts(audience="npc", allowed=("game:server",))
    issuer = IssuerFact("https://kubernetes.default.svc", '{"keys":[{"kid":"1"}]}')
    identity = build_identity(accounts, issuer)
    assert identity is not None
    assert (identity.issuer, identity.audience) == ("https://kubernetes.default.svc", "npc")
    assert identity.subjects == ("game:server",)
    assert identity.keys == issuer.keys
    for unknown in (None, IssuerFact(error="Forbidden")):
        assert build_identity(accounts, unknown) is None
    assert build_identity(None, issuer) is None
