"""Of several images of one contrast the right one is chosen, and the report can tell why."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cascade_bids.bids.choice import choose_image
from cascade_bids.bids.contrast_agent import Sidecars, names_agent
from cascade_bids.bids.index import Image
from cascade_bids.bids.inputs import find_scans
from cascade_bids.config import InputConfig

from .small_dataset import MakeDataset, names, path_of, write_image


@pytest.mark.parametrize(
    ("entity", "reason"),
    [
        ("ce-gd", "contrast agent"),
        ("acq-gd", "contrast agent"),
        ("acq-3DpostGad", "contrast agent"),
        ("desc-gadolinium", "contrast agent"),
        ("part-phase", "phase part"),
        ("mt-on", "magnetisation"),
        ("chunk-1", "one of several parts"),
    ],
)
def test_images_that_never_stand_for_a_contrast(
    dataset: MakeDataset, entity: str, reason: str
) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_T1w", f"sub-1_{entity}_T1w")
    write_image(path_of(root, f"sub-1_{entity}_T1w.nii.gz"), (0.1, 0.1, 0.1))
    (scan,) = find_scans(InputConfig(root, validate=False))
    assert names(scan)["T1w"] == "sub-1_T1w"
    (choice,) = scan.choices
    assert choice.startswith(f"T1w: passed over sub-1_{entity}_T1w.nii.gz") and reason in choice


def test_longest_edge_decides_then_the_volume_then_the_name(
    dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset("sub-1_run-10_T1w", "sub-1_run-2_T1w", "sub-1_run-3_T1w")
    write_image(path_of(root, "sub-1_acq-2D_FLAIR.nii.gz"), (0.43, 0.43, 4.4))
    write_image(path_of(root, "sub-1_acq-3D_FLAIR.nii.gz"), (1, 1, 1))
    write_image(path_of(root, "sub-1_run-3_T1w.nii.gz"), (-1.2, 1.2, 1.2))
    write_image(path_of(root, "sub-1_acq-a_T2w.nii.gz"), (0.9, 3, 0.9))
    write_image(path_of(root, "sub-1_acq-b_T2w.nii.gz"), (0.5, 0.5, 3))
    write_image(path_of(root, "sub-1_acq-c_T2w.nii.gz"), (0.2, 0.2, 3.1))
    with caplog.at_level("INFO", logger="cascade_bids"):
        (scan,) = find_scans(InputConfig(root))
    assert names(scan) == {
        "FLAIR": "sub-1_acq-3D_FLAIR",
        "T1w": "sub-1_run-2_T1w",
        "T2w": "sub-1_acq-b_T2w",
    }
    flair, t1w, t2w = scan.choices
    assert flair == (
        "FLAIR: took sub-1_acq-3D_FLAIR.nii.gz among 2 images, whose longest voxel edge is the "
        "shortest (1 mm); not sub-1_acq-2D_FLAIR.nii.gz."
    )
    assert "smallest voxels (1 mm³), the first by name; not sub-1_run-3_T1w" in t1w
    assert "(3 mm), with the smallest voxels (0.75 mm³); not sub-1_acq-a" in t2w
    assert all(f"{scan.label}: {choice}" in caplog.text for choice in scan.choices)


@given(
    st.lists(st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])] * 3), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_image_that_is_passed_over_has_a_shorter_longest_edge(
    tmp_path: Path, sizes: list[tuple[float, float, float]], random: Random
) -> None:
    images = []
    for run, size in enumerate(sizes, 1):
        path = tmp_path / f"sub-1_run-{run}_FLAIR.nii"
        write_image(path, size)
        images.append(Image(path, {"suffix": "FLAIR", "run": str(run)}))
    random.shuffle(images)
    chosen, _ = choose_image(images, {}, Sidecars(tmp_path))
    assert chosen is not None
    best = sizes[int(chosen.entities["run"]) - 1]
    assert (max(best), math.prod(best)) == min((max(size), math.prod(size)) for size in sizes)


@pytest.mark.parametrize("damage", [b"", b"no gzip", b"\x1f\x8b" + bytes(40)])
def test_unreadable_header_is_passed_over(dataset: MakeDataset, damage: bytes) -> None:
    root = dataset("sub-1_run-1_FLAIR", "sub-1_run-2_FLAIR", "sub-2_FLAIR")
    for name in ("sub-1_run-1_FLAIR.nii.gz", "sub-2_FLAIR.nii.gz"):
        path_of(root, name).write_bytes(damage)
    several, only = find_scans(InputConfig(root))
    assert names(several) == {"FLAIR": "sub-1_run-2_FLAIR"}
    assert any("run-1" in c and "cannot be read" in c for c in several.choices)
    assert names(only) == {"FLAIR": "sub-2_FLAIR"} and only.problem is None


def test_broken_link_and_all_unreadable(dataset: MakeDataset) -> None:
    root = dataset("sub-1_run-1_FLAIR", "sub-1_run-2_FLAIR")
    for run in "12":
        path = path_of(root, f"sub-1_run-{run}_FLAIR.nii.gz")
        path.unlink()
        path.symlink_to("not-fetched")
    (scan,) = find_scans(InputConfig(root))
    assert names(scan) == {"FLAIR": "sub-1_run-1_FLAIR"}
    assert len(scan.choices) == 3
    assert not any(str(root) in choice for choice in scan.choices)


def test_parts_of_an_image_are_never_taken(dataset: MakeDataset) -> None:
    root = dataset("sub-1_chunk-1_FLAIR", "sub-1_chunk-2_FLAIR", "sub-2_chunk-1_T1w", "sub-2_FLAIR")
    bad, good = find_scans(InputConfig(root))
    assert bad.problem is not None
    assert all(f"sub-1_chunk-{n}_FLAIR.nii.gz, it is one of" in bad.problem for n in (1, 2))
    assert good.problem is None and set(good.images) == {"FLAIR"}


AGENTS = ("Gd", "GD", "Gad", "CE", "Gadolinium", "gadovist", "PostContrast", "postgad", "GBCA")
OTHERS = ("SPACE", "space", "Slice", "reduced", "surface", "Highres", "MPRAGE", "3D", "1mm", "Sag")


@given(
    st.lists(st.sampled_from(OTHERS), max_size=2),
    st.sampled_from(AGENTS),
    st.lists(st.sampled_from(("3D", "Sag", "Highres", "1", "2mm")), max_size=2),
)
@example(["t1"], "ce", [])
@example(["mprage"], "gd", [])
@example([], "gd", ["T1"])
def test_a_contrast_agent_is_seen_among_other_words(
    before: list[str], agent: str, after: list[str]
) -> None:
    capital = agent if not before or agent.isupper() else agent[0].upper() + agent[1:]
    if before and before[-1].isupper() and agent.isupper():
        capital = agent.title()  # MPRAGEGd; nobody could tell the words of SPACEGBCA
    assert names_agent("".join([*before, capital, *after]))
    assert not names_agent(
        "".join([*before, "No", capital.title(), *after]).replace("NoPost", "No")
    )


@pytest.mark.parametrize(
    "label",
    ["gdtpa", "GDDTPA", "GdDTPA", "magnevist", "Dotarem", "DotaremT1", "T1c", "T1C", "t1wc", "KM"],
)
def test_names_of_agents_are_known(label: str) -> None:
    assert names_agent(label) and names_agent(f"post{label}")
    assert not names_agent(f"no{label}") and not names_agent(f"ohne{label}")


@pytest.mark.parametrize("label", ["T1cor", "T2c", "t1", "C", "kmeans", "multi", "mag", "FLAIRc"])
def test_parts_of_names_of_agents_are_none(label: str) -> None:
    assert not names_agent(label)


@given(st.lists(st.sampled_from((*OTHERS, "once", "Force", "ice", "Gdansk", "pre", "post"))))
def test_other_words_are_no_contrast_agent(words: list[str]) -> None:
    assert not names_agent("".join(word[0].upper() + word[1:] for word in words))
    assert not any(map(names_agent, words))


@pytest.mark.parametrize(
    ("sidecars", "has_agent"),
    [
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusIngredient": "GADOLINIUM"}}, True),
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgent": "Dotarem 15 ml"}}, True),
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgentSequence": [{"CodeValue": "C"}]}}, True),
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusIngredient": "NONE"}}, False),
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgent": " "}}, False),
        ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgent": None}}, False),
        *(
            ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgent": value}}, False)
            for value in (
                0.0,
                "0 ml",
                "0,0",
                "UNDEFINED",
                "unknown",
                "n/a",
                "-",
                "No agent",
                ["NO"],
            )
        ),
        *(
            ({"sub-1/anat/sub-1_T1w.json": {"ContrastBolusAgent": value}}, True)
            for value in ("0.1 mmol/kg Gd", 7.5, "7,5 ml", "钆", True)
        ),
        ({"sub-1/anat/sub-1_T1w.json": {"EchoTime": 1}}, False),
        ({"T1w.json": {"ContrastBolusIngredient": "GADOLINIUM"}}, True),
        ({"sub-1/sub-1_T1w.json": {"ContrastBolusIngredient": "GADOLINIUM"}}, True),
        ({"T2w.json": {"ContrastBolusIngredient": "GADOLINIUM"}}, False),
        ({"acq-x_T1w.json": {"ContrastBolusIngredient": "GADOLINIUM"}}, False),
        (
            {
                "T1w.json": {"ContrastBolusIngredient": "GADOLINIUM"},
                "sub-1/anat/sub-1_T1w.json": {"ContrastBolusIngredient": "NONE"},
            },
            False,
        ),
    ],
)
def test_contrast_agent_in_sidecars(
    dataset: MakeDataset, sidecars: dict[str, Any], has_agent: bool
) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_T1w")
    for name, content in sidecars.items():
        (root / name).write_text(json.dumps(content))
    (scan,) = find_scans(InputConfig(root))
    assert ("T1w" in scan.images) != has_agent
    assert [choice.startswith("T1w: passed over") for choice in scan.choices] == [True] * has_agent
    assert all("names a contrast agent (ContrastBolus" in choice for choice in scan.choices)


@pytest.mark.parametrize("content", [b"{", b"[]", b"[" * 10**5, None])
def test_unreadable_sidecar_is_told(dataset: MakeDataset, content: bytes | None) -> None:
    root = dataset("sub-1_FLAIR")
    path = path_of(root, "sub-1_FLAIR.json")
    path.write_bytes(content) if content else path.symlink_to("gone")
    (scan,) = find_scans(InputConfig(root))
    assert scan.problem is None
    assert "sub-1_FLAIR.json cannot be read" in scan.choices[0]


def test_letters_of_another_encoding_hide_no_contrast_agent(dataset: MakeDataset) -> None:
    root = dataset("sub-1_FLAIR", "sub-1_T1w")
    text = '{"InstitutionName": "Universität", "ContrastBolusAgent": "Gadovist"}'
    path_of(root, "sub-1_T1w.json").write_text(text, encoding="latin-1")
    (scan,) = find_scans(InputConfig(root))
    assert set(scan.images) == {"FLAIR"}


def test_only_sidecars_of_the_participants_are_read(
    dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset("sub-1_FLAIR", "sub-2_FLAIR", "sub-2_ce-gd_T1w")
    for name in ("sub-1_FLAIR.json", "sub-2_FLAIR.json", "sub-2_ce-gd_T1w.json"):
        path_of(root, name).write_text("{}")
    read: list[str] = []
    read_text = Path.read_text

    def record(path: Path, *args: Any, **kwargs: Any) -> str:
        read.append(path.name)
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", record)
    find_scans(InputConfig(root, participant_labels=("2",)))
    assert read == ["sub-2_FLAIR.json"]
