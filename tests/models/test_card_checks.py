"""What is wrong with a card is named before anything runs, and with it what is right."""

import json
import re

import pytest

from cascade_bids.errors import StartError, UsageError
from cascade_bids.models.card import load_card
from cascade_bids.models.members import Member

from .toy_method import ENTRIES, change, change_stage, save_toy


@pytest.fixture
def path(tmp_path):
    """Card of a method of two stages."""
    return save_toy(tmp_path / "w")


def remove(path, name):
    entries = json.loads(path.read_text())
    del entries[name]
    path.write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "low"),
        ("threshold", 1.7),
        ("threshold", 0),
        ("threshold", True),
        ("min_lesion_mm3", -1),
        ("combination", "sum"),
        ("contrasts", ["T1w"]),
        ("contrasts", "FLAIR"),
        ("temperature", 0),
        ("peak", None),
        ("load_factor", "wide"),
        ("confidence", [1.0, 2.0]),
        ("confidence", 3.0),
        ("anatomy", 1),
        ("sphere_head", "no"),
        ("optional", "T1w"),
        ("optional", ["T1W"]),
        ("optional", ["FLAIR"]),
        ("contrasts", ["T1W", "FLAIR"]),
        ("contrasts", ["FLAIR", "FLAIR"]),
        ("confidence", [float("nan"), 1.0, 2.0]),
        ("name", 5),
        ("training_scans", "sub-01"),
        ("heads", [1]),
        ("source", 7),
    ],
)
def test_a_card_that_makes_no_sense_is_refused_by_name(path, name, value):
    assert load_card(str(path)).operating_point.threshold == 0.2
    change(path, **{name: value})
    with pytest.raises(StartError, match=rf"toy\.json: {name} is .*, and must "):
        load_card(str(path))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("threshold", "it must be above 0, and at most 1"),
        ("min_lesion_mm3", "it must be a volume in mm³"),
        ("combination", "it must be one of last, product, mean, vote"),
        ("contrasts", "it must be a list of FLAIR, T1w, T2w, PDw, each once, with FLAIR"),
        ("stages", "take the card as it was written"),
    ],
)
def test_a_card_that_lacks_something_is_told_what_is_right(path, name, right):
    remove(path, name)
    with pytest.raises(StartError, match=rf"toy\.json has no {name}: {right}"):
        load_card(str(path))


MEMBER = {"name": "toy", "stages": 2, "combination": "last", "weight": 0.5}


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ([], "members is .*, and must be a list of names with values"),
        (["toy"], "members is .*, and must be a list of names with values"),
        ([MEMBER | {"stages": 1.5}], "stages of member 1 is 1.5, and must be a whole number"),
        ([MEMBER | {"combination": "sum"}], "combination of member 1 is 'sum', and must be"),
        ([MEMBER | {"weight": 0}], "weight of member 1 is 0, and must be a number above 0"),
        ([MEMBER, MEMBER | {"weights": 1}], "unknown entry weights of member 2; "),
        ([MEMBER, {"name": "toy"}], "no stages of member 2"),
        ([MEMBER, MEMBER], "its members must have as many stages together as it has, 2"),
    ],
)
def test_members_that_make_no_sense_are_refused(path, members, wrong):
    remove(path, "combination")
    change(path, members=[MEMBER])
    assert load_card(str(path)).members == (Member("toy", 2, "last", 0.5),)
    change(path, members=members)
    with pytest.raises(StartError, match=rf"toy\.json.* {wrong}"):
        load_card(str(path))


def test_a_joined_method_has_no_combination_of_its_own(path):
    change(path, members=[MEMBER])
    with pytest.raises(StartError, match="has members, and combination belongs to each of them"):
        load_card(str(path))


def test_a_card_without_stages_is_refused(path):
    for stages in ([], {}, None, "two"):
        change(path, stages=stages)
        with pytest.raises(StartError, match=r"toy\.json has no stages"):
            load_card(str(path))


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("thresholds", "did you mean threshold?"),
        ("Threshold", "did you mean threshold?"),
        ("combinations", "did you mean combination?"),
        ("min_lesion_mm", "did you mean min_lesion_mm3?"),
        ("zzz", None),
    ],
)
def test_an_unknown_entry_is_refused_and_what_was_meant_is_suggested(path, unknown, meant):
    change(path, **{unknown: 0.3})
    with pytest.raises(StartError, match=rf"toy\.json has an unknown entry {unknown}; ") as raised:
        load_card(str(path))
    message = str(raised.value)
    assert ("did you mean" in message) == (meant is not None)
    assert (meant or "") in message
    assert all(name in message for name in ENTRIES)


def test_an_entry_under_a_misspelt_name_is_not_just_missing(path):
    """Who reads that the threshold is missing looks for it where it seems to be."""
    change(path, thresholds=json.loads(path.read_text())["threshold"])
    remove(path, "threshold")
    with pytest.raises(StartError, match=r"unknown entry thresholds; did you mean threshold\?"):
        load_card(str(path))


@pytest.mark.parametrize("name", ["architecture", "arguments", "file", "sha256"])
def test_a_stage_that_lacks_something_is_refused_by_number(path, name):
    stages = json.loads(path.read_text())["stages"]
    del stages[1][name]
    change(path, stages=stages)
    with pytest.raises(StartError, match=rf"toy\.json has no {name} of stage 2: it must be"):
        load_card(str(path))


@pytest.mark.parametrize(
    ("name", "value"),
    [("architecture", 1), ("arguments", []), ("file", None), ("sha256", 0)],
)
def test_a_stage_that_makes_no_sense_is_refused_by_number(path, name, value):
    change_stage(path, 2, **{name: value})
    with pytest.raises(StartError, match=rf"{name} of stage 2 is .*, and must be"):
        load_card(str(path))
    change(path, stages=[json.loads(path.read_text())["stages"][0], "second"])
    with pytest.raises(StartError, match=r"toy\.json: stage 2 holds no names with values"):
        load_card(str(path))


def test_an_unknown_entry_of_a_stage_is_refused(path):
    change_stage(path, 2, sha265="0")
    with pytest.raises(StartError, match=r"unknown entry sha265 of stage 2; did you mean sha256\?"):
        load_card(str(path))


def test_an_unknown_architecture_lists_the_known_ones(path):
    change_stage(path, 2, architecture="Transformer")
    with pytest.raises(StartError, match="architecture of stage 2 is 'Transformer', and") as raised:
        load_card(str(path))
    listed = re.search("must be one of (.*)$", str(raised.value))
    assert listed is not None
    assert {
        "ContextNetwork",
        "JetNetwork",
        "LesionTiramisu",
        "LesionUNet",
        "Msseg2016Network",
        "NicmslesionsNetwork",
        "PatchNetwork",
        "UNet",
    } <= set(listed[1].split(", "))


@pytest.mark.parametrize(
    "value", [{"flair_above": 1.0}, {"flair_above_z": "high"}, {"previous_above": True}, None, [1]]
)
def test_candidates_that_make_no_sense_are_refused(path, value):
    change_stage(path, 2, candidates=value)
    with pytest.raises(StartError, match=r"candidates of stage 2 is .* previous_above"):
        load_card(str(path))


def test_a_network_that_finds_no_lesions_is_no_stage_of_a_method(path):
    change_stage(path, architecture="UNet", arguments={"channels_in": 1, "widths": [2, 3]})
    with pytest.raises(StartError, match="stage 1 is 'UNet', which finds no lesions"):
        load_card(str(path))


def test_a_stage_without_candidates_is_no_stage_of_a_method(path):
    stages = json.loads(path.read_text())["stages"]
    del stages[0]["candidates"]
    change(path, stages=stages)
    with pytest.raises(StartError, match=r"toy\.json has no candidates of stage 1"):
        load_card(str(path))


def test_a_network_that_is_built_for_another_input_is_refused(path):
    change(path, contrasts=["FLAIR", "T1w"])
    with pytest.raises(StartError, match=r"channels_in of stage 1 is 1, and must be 2 by the card"):
        load_card(str(path))


def test_a_card_without_its_task_is_told_so_and_not_a_file_beside_it(path):
    path.with_name("notes.json").write_bytes(b"\xff\xfe")
    remove(path, "task")
    with pytest.raises(StartError, match=r"toy\.json has no task: it must be 'lesion"):
        load_card(str(path))
    with pytest.raises(UsageError, match=r"no method named 'none' in .*; there are: "):
        load_card("none", path.parent)


def test_a_card_that_is_nested_without_end_is_damaged(path):
    path.write_text("[" * 100_000)
    with pytest.raises(StartError, match="is damaged"):
        load_card(str(path))
