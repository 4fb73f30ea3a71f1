"""A further node follows the member's word in the directory: what the member's known keys signed, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from registry_world import CLIENT, CONSUMER, PROVIDER, RIGHT, SERVICE, START, World, time_at

from registry.decision import authorise_coarse
from registry.fold import Skipped
from registry.followed import FollowedWord
from registry.own import OwnView, compare

AT = START + timedelta(hours=1)


def leaf_of(world: World, index: int) -> bytes | None:
    return world.leaves[index] if index < len(world.leaves) else None


def followed(world: World) -> FollowedWord:
    signers = frozenset({world.provider.keyid})
    return FollowedWord(world.directory, PROVIDER, signers, lambda index: leaf_of(world, index))


def take(world: World, word: FollowedWord) -> bool:
    return word.take_over(world.directory.folded_size)


def test_it_is_what_the_directory_says_under_the_members_key(world: World) -> None:
    word = followed(world)
    assert take(world, word)
    assert not take(world, word)
    view = OwnView(word, world.directory)
    assert view.rights(CLIENT, SERVICE) == world.directory.rights(CLIENT, SERVICE)
    assert view.service(SERVICE) == world.directory.service(SERVICE)
    assert compare(word, world.directory) == []
    assert authorise_coarse(view, client=CLIENT, service=SERVICE, at=AT).allowed


@pytest.mark.parametrize("from_start", [True, False])
def test_a_withdrawn_right_ends_whether_it_is_followed_or_found_at_the_start(world: World, from_start: bool) -> None:
    word = followed(world)
    if not from_start:
        take(world, word)
    world.put(world.access(until=time_at(20)), world.provider)
    assert take(world, word)
    view = OwnView(word, world.directory)
    assert not authorise_coarse(view, client=CLIENT, service=SERVICE, at=AT).allowed


@pytest.mark.parametrize("from_start", [True, False])
def test_a_right_under_a_key_that_the_members_home_did_not_name_is_not_in_force(world: World, from_start: bool) -> None:
    """The member was re-keyed: the directory believes the new key, this node does not."""
    word = followed(world)
    if not from_start:
        take(world, word)
    stranger = world.party(PROVIDER)
    world.put(world.member(stranger), world.operator, world.provider)
    world.put(world.access(f"{SERVICE}#thief", client=f"{CONSUMER}/thief"), stranger)
    world.put(world.subsystem(f"{CONSUMER}/thief"), world.consumer)
    world.put(world.access(fields=("*",)), stranger)
    assert authorise_coarse(world.directory, client=f"{CONSUMER}/thief", service=SERVICE, at=AT).allowed
    take(world, word)
    view = OwnView(word, world.directory)
    assert not authorise_coarse(view, client=f"{CONSUMER}/thief", service=SERVICE, at=AT).allowed
    assert all(right.fields == frozenset() for right in view.rights(CLIENT, SERVICE))
    alarms = {(one.code, one.subject) for one in compare(word, world.directory)}
    assert alarms == {("stranger-in-own-name", f"{SERVICE}#thief"), ("stranger-in-own-name", RIGHT)}


def test_another_members_word_is_not_taken(world: World) -> None:
    word = FollowedWord(
        world.directory, CONSUMER, frozenset({world.provider.keyid}), lambda index: leaf_of(world, index)
    )
    take(world, word)
    assert OwnView(word, world.directory).service(SERVICE) is None


def test_a_document_that_the_directory_skipped_is_not_followed(world: World) -> None:
    """An older word of the member, appended again by whoever runs the registry."""
    word = followed(world)
    take(world, word)
    older = world.sign(world.access(until=time_at(20)), world.provider)
    world.put(world.access(), world.provider)
    assert isinstance(world.append(older), Skipped)
    take(world, word)
    assert authorise_coarse(OwnView(word, world.directory), client=CLIENT, service=SERVICE, at=AT).allowed
