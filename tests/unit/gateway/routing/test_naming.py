"""``gateway.routing.naming``: one namespace, in which every tool has exactly one name."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import naming as named
from gateway.routing.naming import MAX_COMPOSED, compose, compose_uri, label, labels, splits
from shared.choices import Naming


def assign(
    groups: Iterable[tuple[str, Iterable[str]]], naming: Naming, separator: str, are_uris: bool = False
) -> dict[str, tuple[str, str]]:
    """``naming.assign`` where every group has had all its names since it was registered."""
    return named.assign([(group, dict.fromkeys(names, 0.0)) for group, names in groups], naming, separator, are_uris)


AUTO, PREFIX = Naming.AUTO, Naming.PREFIX
Groups = list[tuple[str, list[str]]]

NAMES = st.lists(st.text("ab_", min_size=1, max_size=6), unique=True, max_size=6)
LONG = st.lists(st.sampled_from(["t" * 60, "t" * 61, "t" * 61 + "u", "t" * 70, "t" * 128]), unique=True, max_size=4)
GROUPS: st.SearchStrategy[Groups] = st.lists(
    st.tuples(st.text("ab_", min_size=1, max_size=4).filter(lambda name: "__" not in name), NAMES | LONG),
    unique_by=lambda group: group[0],
    max_size=5,
)


@given(GROUPS, st.sampled_from(Naming))
def test_naming_is_injective_and_forgets_nobody(groups: Groups, naming: Naming) -> None:
    listed = assign(groups, naming, "__")
    everyone = [(group, name) for group, names in groups for name in names]
    assert sorted(listed.values()) == sorted(everyone)


@given(GROUPS)
def test_the_group_registered_first_keeps_the_bare_name(groups: Groups) -> None:
    listed = assign(groups, AUTO, "__")
    first: dict[str, str] = {}
    for group, names in groups:
        for name in names:
            first.setdefault(name, group)
    known = {group for group, _ in groups}
    for name, group in first.items():
        marked = [one for one, _ in splits(name, False, "__") if one in known - {group}]
        assert marked or listed[name] == (group, name)


@given(GROUPS, st.sampled_from(Naming))
def test_the_same_groups_always_give_the_same_names(groups: Groups, naming: Naming) -> None:
    assert assign(groups, naming, "__") == assign(groups, naming, "__")


@given(GROUPS, NAMES)
def test_a_group_registered_later_takes_no_bare_name_away(groups: Groups, names: list[str]) -> None:
    before = {name: owner for name, owner in assign(groups, AUTO, "__").items() if name == owner[1]}
    after = assign([*groups, ("later", names)], AUTO, "__")
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("groups", "naming", "expected"),
    [
        ([("a", ["x", "y"]), ("b", ["z"])], AUTO, {"x": ("a", "x"), "y": ("a", "y"), "z": ("b", "z")}),
        ([("a", ["x"]), ("b", ["x"])], AUTO, {"x": ("a", "x"), "b__x": ("b", "x")}),
        ([("b", ["x"]), ("a", ["x"])], AUTO, {"x": ("b", "x"), "a__x": ("a", "x")}),
        ([("a", ["x"]), ("b", ["x", "y"])], AUTO, {"x": ("a", "x"), "b__x": ("b", "x"), "y": ("b", "y")}),
        ([("a", ["x"]), ("b", ["x"])], PREFIX, {"a__x": ("a", "x"), "b__x": ("b", "x")}),
        ([], AUTO, {}),
        ([("a", [])], PREFIX, {}),
    ],
)
def test_names_are_bare_while_only_one_group_has_them(
    groups: Groups, naming: Naming, expected: dict[str, tuple[str, str]]
) -> None:
    assert assign(groups, naming, "__") == expected


def test_a_name_that_looks_composed_gives_way_to_the_composed_one() -> None:
    listed = assign([("a", ["x", "b__x"]), ("b", ["x"])], AUTO, "__")
    assert listed == {"x": ("a", "x"), "b__x": ("b", "x"), "a__b__x": ("a", "b__x")}


def test_a_name_that_looks_composed_in_another_case_gives_way_as_well() -> None:
    groups = [("bank", {"transfer": 0.0}), ("evil", {"BANK__transfer": 0.0})]
    assert assign(groups, Naming.AUTO, "__") == {
        "transfer": ("bank", "transfer"),
        "evil__BANK__transfer": ("evil", "BANK__transfer"),
    }


def test_two_groups_that_compose_alike_are_told_apart() -> None:
    listed = assign([("a", ["_x"]), ("a_", ["x"])], PREFIX, "__")
    assert listed["a___x"] == ("a", "_x")
    assert len(listed) == 2


def test_the_separator_is_the_one_that_was_set() -> None:
    assert compose("a", "x", ".") == "a.x"
    assert set(assign([("a", ["x"]), ("b", ["x"])], AUTO, ".")) == {"x", "b.x"}


@given(st.text("ab", min_size=1, max_size=70), st.text("cd", min_size=1, max_size=140))
def test_composed_names_are_never_too_long(group: str, name: str) -> None:
    composed = compose(group, name, "__")
    assert len(composed) <= MAX_COMPOSED == 64
    if len(group) + len(name) + 2 <= MAX_COMPOSED:
        assert composed == f"{group}__{name}"


@pytest.mark.parametrize(("length", "kept"), [(56, True), (57, True), (58, False), (59, False), (200, False)])
def test_a_name_is_shortened_only_when_it_must_be(length: int, kept: bool) -> None:
    composed = compose("group", "t" * length, "__")
    assert (composed == "group__" + "t" * length) is kept
    assert len(composed) == min(7 + length, MAX_COMPOSED)


def test_a_long_name_that_looks_composed_gives_names_of_good_length_too() -> None:
    taken = compose("b", "t" * 62, "__")
    listed = assign([("a", ["t" * 62, taken]), ("b", ["t" * 62])], AUTO, "__")
    (other,) = [name for name, owner in listed.items() if owner[0] == "b"]
    assert other == taken
    assert len(other) == MAX_COMPOSED


def test_long_names_that_differ_at_the_end_stay_apart() -> None:
    names = {compose("group", "t" * 80 + end, "__") for end in ("a", "b", "")}
    assert len(names) == 3
    assert all(name.startswith("group__ttt") for name in names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain-1_x", "plain-1_x"),
        ("_local", "_local"),
        ("my__server", "my__server"),
        ("Azure MCP Server", "Azure_MCP_Server"),
        ("io.github.someone/server", "io_github_someone_server"),
        ("Figma (beta)", "Figma_beta"),
        ("Wetter für Köln", "Wetter_f_r_K_ln"),
    ],
)
def test_a_label_is_what_models_take_and_people_read(text: str, expected: str) -> None:
    assert label(text) == expected


@given(st.lists(st.text("aB_. 图", min_size=1, max_size=4), unique=True))
def test_labels_tell_all_texts_apart(texts: list[str]) -> None:
    found = labels(texts)
    assert list(found) == texts
    assert len(set(found.values())) == len(texts)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in found.values())
    assert all(found[text] == text for text in texts if re.fullmatch(r"[a-zA-Z0-9_-]+", text))


ODD = st.lists(
    st.tuples(st.text("aB_. 图/", min_size=1, max_size=70), NAMES), unique_by=lambda group: group[0], max_size=4
)


@given(ODD, st.sampled_from(Naming))
def test_whatever_a_group_is_called_models_take_what_is_composed(groups: Groups, naming: Naming) -> None:
    listed = assign(groups, naming, "__")
    assert sorted(listed.values()) == sorted((group, name) for group, names in groups for name in names)
    made = [name for name, owner in listed.items() if name != owner[1]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in made)


def test_a_group_with_an_odd_name_has_composed_names_that_can_be_read() -> None:
    listed = assign([("a", ["x", "y.z"]), ("Azure MCP Server", ["x", "y.z"])], AUTO, "__")
    assert set(listed) == {"x", "y.z", "Azure_MCP_Server__x", "Azure_MCP_Server__y_z"}


def test_groups_that_would_be_labelled_alike_do_not_take_each_others_names() -> None:
    before = assign([("a", ["x"]), ("a b", ["x"]), ("a.b", ["x"])], AUTO, "__")
    after = assign([("a", ["x"]), ("a.b", ["x"])], AUTO, "__")
    assert len(before) == 3
    assert all(before.get(name, place) == place for name, place in after.items())


# ---- URIs


@pytest.mark.parametrize(
    ("uri", "composed"),
    [
        ("file:///a", "file://docs__/a"),
        ("https://h:80/p?q#f", "https://docs__h:80/p?q#f"),
        ("db://{table}/{+id}", "db://docs__{table}/{+id}"),
        ("urn:isbn:1", "docs__urn:isbn:1"),
        ("x://y://z", "x://docs__y://z"),
    ],
)
def test_a_uri_is_marked_within_its_scheme_and_splits_again(uri: str, composed: str) -> None:
    assert compose_uri("docs", uri, "__") == composed
    assert ("docs", uri) in splits(composed, True, "__")


@pytest.mark.parametrize(
    ("name", "is_uri", "expected"),
    [
        ("g__x", False, [("g", "x")]),
        ("g__x__y", False, [("g", "x__y"), ("g__x", "y")]),
        ("g___x", False, [("g", "_x"), ("g_", "x")]),
        ("x", False, []),
        ("g_x", False, []),
        ("file:///a", True, []),
        ("g__urn:x", True, [("g", "urn:x")]),
        ("file://g__x", False, [("file://g", "x")]),
        ("file://g__h__/x", True, [("g", "file://h__/x"), ("g__h", "file:///x")]),
    ],
)
def test_a_composed_name_is_split_at_each_separator(name: str, is_uri: bool, expected: list[tuple[str, str]]) -> None:
    assert list(splits(name, is_uri, "__")) == expected


@given(st.text("ab", min_size=1, max_size=8), st.text("cd:/_", max_size=30))
def test_whatever_is_composed_splits_into_the_same(group: str, name: str) -> None:
    assert (group, name) in splits(compose(group, name, "__"), False, "__")
    if not name.startswith("://"):
        assert (group, name) in splits(compose_uri(group, name, "__"), True, "__")


@pytest.mark.parametrize("naming", Naming)
def test_uris_are_composed_only_at_a_collision(naming: Naming) -> None:
    groups = [("a", ["file:///x", "file:///y"]), ("b", ["file:///x", "urn:z"]), ("c", ["urn:z"])]
    assert assign(groups, naming, "__", are_uris=True) == {
        "file:///x": ("a", "file:///x"),
        "file:///y": ("a", "file:///y"),
        "file://b__/x": ("b", "file:///x"),
        "urn:z": ("b", "urn:z"),
        "c__urn:z": ("c", "urn:z"),
    }


def test_a_uri_is_never_shortened_for_its_length() -> None:
    uri = "file:///" + "long/" * 60
    listed = assign([("a", [uri]), ("b", [uri])], AUTO, "__", are_uris=True)
    assert list(listed) == [uri, "file://b__/" + "long/" * 60]


def test_a_uri_that_looks_composed_gives_way_too() -> None:
    groups = [("a", ["file:///x", "file://b__/x"]), ("b", ["file:///x"])]
    listed = assign(groups, AUTO, "__", are_uris=True)
    assert listed["file://b__/x"] == ("b", "file:///x")
    assert listed["file://a__b__/x"] == ("a", "file://b__/x")


@pytest.mark.parametrize(
    ("first", "second", "bare"),
    [(0.0, 0.0, "a"), (1.0, 2.0, "a"), (2.0, 1.0, "b"), (2.0, 2.0, "a")],
)
def test_who_had_a_name_first_keeps_it_whoever_was_registered_first(first: float, second: float, bare: str) -> None:
    listed = named.assign([("a", {"x": first}), ("b", {"x": second})], AUTO, "__")
    other = "b" if bare == "a" else "a"
    assert listed == {"x": (bare, "x"), f"{other}__x": (other, "x")}


def test_a_name_that_looks_like_another_groups_is_not_listed_bare() -> None:
    for groups in (
        [("bank", ["transfer"]), ("evil", ["bank__transfer", "bank__other", "my__own"])],
        [("evil", ["bank__transfer", "bank__other", "my__own"]), ("bank", ["transfer"])],
    ):
        assert assign(groups, AUTO, "__") == {
            "transfer": ("bank", "transfer"),
            "evil__bank__transfer": ("evil", "bank__transfer"),
            "evil__bank__other": ("evil", "bank__other"),
            "my__own": ("evil", "my__own"),
        }
    assert assign([("bank", ["bank__transfer"])], AUTO, "__") == {"bank__transfer": ("bank", "bank__transfer")}
    listed = assign([("My Bank", ["transfer"]), ("evil", ["My_Bank__transfer"])], AUTO, "__")
    assert listed["evil__My_Bank__transfer"] == ("evil", "My_Bank__transfer")


@pytest.mark.parametrize("name", ["_" * 2048, "_" * 10_000_000, "a__" * 5000, "x://" + "_" * 1_000_000])
@pytest.mark.parametrize("is_uri", [True, False])
def test_a_name_of_separators_may_be_made_of_few_things_only(name: str, is_uri: bool) -> None:
    """All ways of a name of a million separators would take minutes, and anybody may ask for such a name."""
    assert len(list(splits(name, is_uri, "__"))) <= 16


def test_groups_with_separators_of_their_own_are_found() -> None:
    assert ("a__b", "c__d") in list(splits("a__b__c__d", False, "__"))
    assert ("a" * 128, "t" * 2048) in list(splits(f"{'a' * 128}__{'t' * 2048}", False, "__"))
