import uuid

from umbel.ids import derived_id, expand_node_name, hostname, new_id


def test_new_ids_are_uuids_of_version_7() -> None:
    made = uuid.UUID(new_id())

    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_new_ids_are_unique() -> None:
    assert len({new_id() for _ in range(20_000)}) == 20_000


def test_later_ids_sort_after_earlier_ones() -> None:
    made = [new_id()[:13] for _ in range(5000)]

    assert made == sorted(made)


def test_derived_ids_are_the_same_for_the_same_parent_and_edge() -> None:
    parent = new_id()

    assert derived_id(parent, "callback:0") == derived_id(parent, "callback:0")
    assert derived_id(parent, "callback:0") != derived_id(parent, "callback:1")
    assert derived_id("no uuid at all", "x") == derived_id("no uuid at all", "x")


def test_node_names_are_filled_in() -> None:
    assert expand_node_name("w%%1@%h") == f"w%1@{hostname()}"
    assert expand_node_name("w") == f"w@{hostname()}"
    assert expand_node_name("%n") == f"{hostname().partition('.')[0]}@{hostname()}"
