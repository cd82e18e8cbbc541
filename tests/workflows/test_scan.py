"""The workflow of a scan as a graph: built, looked at, and not run."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Workflow

from cascade_bids.bids.inputs import Scan
from cascade_bids.config import (
    InputConfig,
    MethodConfig,
    ParticipantConfig,
    PreprocessConfig,
    ResourceConfig,
)
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.models.card import Cards, load_card, load_model_card
from cascade_bids.workflows.scan import init_participant_wf, init_scan_wf

CARDS = Cards(load_card("valverde2017"), load_model_card("brain"))
FLAIR_CARDS = replace(CARDS, method=replace(CARDS.method, contrasts=("FLAIR",)))
MNI = "MNI152NLin2009aSym"

FLAIR_ALONE = {
    "conform_FLAIR",
    "correct_bias_FLAIR",
    "extract_brain_FLAIR",
    "align_to_template",
    "merge_images",
    "merge_warnings",
    "prepare_network_grid",
    "prepare_flair_grid",
    "find_lesions",
    "resample_probability",
    "label_lesions",
    "measure_lesions",
    "measure_quality",
    "draw_brain",
    "draw_lesions",
    "save_early_figure_brain",
    "save_early_figure_lesions",
    "save_figure_brain",
    "save_figure_lesions",
    "save_scan",
}
T1W_BESIDE = {
    "conform_T1w",
    "correct_bias_T1w",
    "extract_brain_T1w",
    "register_T1w",
    "merge_transforms",
}


def make_scan(folder: Path, *contrasts: str, mask_space: str | None = None) -> Scan:
    """Nipype asks that input files exist; nothing reads these."""
    paths = {c: folder / f"sub-01_{c}.nii.gz" for c in contrasts}
    mask = folder / "mask.nii.gz" if mask_space else None
    for path in (*paths.values(), *([mask] if mask else [])):
        nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_filename(path)
    return Scan("01", None, None, images=paths, brain_mask=mask, brain_mask_space=mask_space)


def make_config(folder: Path, *spaces: str, skull_strip: str = "auto") -> ParticipantConfig:
    return ParticipantConfig(
        output_dir=folder / "out",
        inputs=InputConfig(bids_dir=folder),
        preprocess=PreprocessConfig(skull_strip, 7, spaces),
        method=MethodConfig(),
        resources=ResourceConfig(work_dir=folder / "work"),
    )


def nodes(workflow: Workflow) -> set[str]:
    return set(workflow.list_node_names())


def interface(workflow: Workflow, name: str) -> str:
    return type(workflow.get_node(name).interface).__name__


def sources(workflow: Workflow, name: str) -> dict[str, str]:
    """Give for each connected input of a node the node that feeds it."""
    return {
        target: source.name
        for source, node, data in workflow._graph.in_edges(data=True)
        if node.name == name
        for _, target in data["connect"]
    }


def test_a_method_that_needs_flair_leaves_the_t1w_alone(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path), FLAIR_CARDS)
    assert nodes(workflow) == FLAIR_ALONE
    assert workflow.get_node("find_lesions").inputs.contrasts == ["FLAIR"]
    assert "transforms" not in sources(workflow, "prepare_network_grid")
    assert "transforms" not in sources(workflow, "save_scan")


def test_the_t1w_is_brought_to_the_flair_and_both_to_the_network(tmp_path: Path) -> None:
    workflow = init_scan_wf(make_scan(tmp_path, "T1w", "FLAIR"), make_config(tmp_path), CARDS)
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE
    assert sources(workflow, "register_T1w") == {
        "fixed": "correct_bias_FLAIR",
        "fixed_brain": "extract_brain_FLAIR",
        "moving": "correct_bias_T1w",
        "moving_brain": "extract_brain_T1w",
    }
    assert sources(workflow, "merge_images") == {
        "in1": "correct_bias_FLAIR",
        "in2": "correct_bias_T1w",
    }
    assert sources(workflow, "merge_transforms") == {"in1": "register_T1w"}
    for grid in ("prepare_network_grid", "prepare_flair_grid"):
        fed = sources(workflow, grid)
        assert (fed["in_files"], fed["transforms"]) == ("merge_images", "merge_transforms")
        assert workflow.get_node(grid).inputs.contrasts == ["FLAIR", "T1w"]
    assert sources(workflow, "align_to_template")["in_file"] == "correct_bias_FLAIR"


def test_lesions_are_measured_on_the_raw_flair_grid(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path), CARDS)
    flair = str(scan.images["FLAIR"])
    assert workflow.get_node("resample_probability").inputs.grid == flair
    assert workflow.get_node("prepare_flair_grid").inputs.grid == flair
    assert sources(workflow, "measure_lesions") == {
        "labels": "label_lesions",
        "probability": "resample_probability",
        "brain": "prepare_flair_grid",
        "template_to_flair": "align_to_template",
        "orientation_known": "conform_FLAIR",
    }
    saved = sources(workflow, "save_scan")
    assert saved["lesion_mask"] == saved["lesion_dseg"] == "label_lesions"
    assert saved["lesion_table"] == saved["summary"] == "measure_lesions"


def test_the_operating_point_of_the_card_and_the_seed_reach_their_steps(tmp_path: Path) -> None:
    method = replace(CARDS.method, operating_point=OperatingPoint(0.3, 4.0, 0.6))
    cards = replace(CARDS, method=method)
    workflow = init_scan_wf(make_scan(tmp_path, "FLAIR", "T1w"), make_config(tmp_path), cards)
    label = workflow.get_node("label_lesions").inputs
    assert (label.threshold, label.min_lesion_mm3, label.min_peak) == (0.3, 4.0, 0.6)
    assert workflow.get_node("register_T1w").inputs.seed == 7
    assert workflow.get_node("align_to_template").inputs.seed == 7
    facts = workflow.get_node("save_scan").inputs.facts
    assert (facts["threshold"], facts["min_lesion_mm3"], facts["peak"]) == (0.3, 4.0, 0.6)
    assert facts["random_seed"] == 7
    assert facts["weights_sha256"] == CARDS.method.weights_sha256


def test_steps_with_networks_are_hashed_with_the_whole_card(tmp_path: Path) -> None:
    workflow = init_scan_wf(make_scan(tmp_path, "FLAIR", "T1w"), make_config(tmp_path), CARDS)
    for step, card in (("find_lesions", CARDS.method), ("extract_brain_FLAIR", CARDS.brain)):
        hashed, _ = workflow.get_node(step).inputs.get_hashval()
        assert card.sha256 in str(hashed)


@pytest.mark.parametrize(
    ("there", "told"), [(("FLAIR",), True), (("FLAIR", "T1w"), False), (("FLAIR", "T2w"), False)]
)
def test_a_flair_alone_is_warned_of(tmp_path: Path, there: tuple[str, ...], told: bool) -> None:
    contrasts = ("FLAIR", "T1w", "T2w")
    method = replace(CARDS.method, contrasts=contrasts, optional=("T1w", "T2w"))
    cards = replace(CARDS, method=method)
    workflow = init_scan_wf(make_scan(tmp_path, *there), make_config(tmp_path), cards)
    warnings = workflow.get_node("save_scan").inputs.facts["warnings"]
    assert any("only a FLAIR, where T1w and T2w" in warning for warning in warnings) == told


def test_a_method_that_wants_to_know_where_it_is_gets_anatomical_maps(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    cards = replace(CARDS, method=replace(CARDS.method, takes_anatomy=True))
    workflow = init_scan_wf(scan, make_config(tmp_path), cards)
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE | {"measure_anatomy"}
    assert sources(workflow, "measure_anatomy") == {
        "in_files": "prepare_network_grid",
        "brain": "prepare_network_grid",
        "rigid": "align_to_template",
        "affine": "align_to_template",
    }
    assert workflow.get_node("measure_anatomy").inputs.contrasts == ["FLAIR", "T1w"]
    assert sources(workflow, "find_lesions")["anatomy"] == "measure_anatomy"


def test_an_image_that_the_method_does_not_use_is_ignored(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w", "T2w", "PDw")
    workflow = init_scan_wf(scan, make_config(tmp_path), CARDS)
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE
    assert workflow.get_node("save_scan").inputs.contrasts == ["FLAIR", "T1w"]


def test_images_without_skull_keep_their_own_brain(tmp_path: Path) -> None:
    config = make_config(tmp_path, skull_strip="skip")
    workflow = init_scan_wf(make_scan(tmp_path, "FLAIR", "T1w"), config, CARDS)
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE
    for contrast in ("FLAIR", "T1w"):
        name = f"extract_brain_{contrast}"
        assert interface(workflow, name) == "NonzeroMask"
        assert sources(workflow, name) == {"in_file": f"correct_bias_{contrast}"}
    facts = workflow.get_node("save_scan").inputs.facts
    assert facts["skull_strip"] == "skip"
    assert any("brain-extracted" in warning for warning in facts["warnings"])


def test_a_given_mask_on_the_flair_replaces_the_extraction(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w", mask_space="FLAIR")
    workflow = init_scan_wf(scan, make_config(tmp_path), CARDS)
    assert interface(workflow, "extract_brain_FLAIR") == "ResampleMask"
    assert workflow.get_node("extract_brain_FLAIR").inputs.in_file == str(scan.brain_mask)
    assert sources(workflow, "extract_brain_FLAIR") == {"grid": "correct_bias_FLAIR"}
    assert interface(workflow, "extract_brain_T1w") == "ExtractBrain"
    assert sources(workflow, "align_to_template")["brain"] == "extract_brain_FLAIR"


def test_a_given_mask_on_the_t1w_is_carried_to_the_flair(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w", mask_space="T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path), CARDS)
    assert interface(workflow, "extract_brain_T1w") == "ResampleMask"
    assert interface(workflow, "extract_brain_FLAIR") == "ExtractBrain"
    assert sources(workflow, "resample_brain") == {
        "in_file": "extract_brain_T1w",
        "grid": "extract_brain_FLAIR",
        "transform": "register_T1w",
    }
    # Registration itself still needs a brain on each image.
    assert sources(workflow, "register_T1w")["fixed_brain"] == "extract_brain_FLAIR"
    for name in ("align_to_template", "prepare_network_grid", "prepare_flair_grid", "draw_brain"):
        assert sources(workflow, name)["brain"] == "resample_brain"


def test_a_given_mask_brings_its_image_in_though_the_method_does_not(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w", mask_space="T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path), FLAIR_CARDS)
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE | {"resample_brain"}
    assert sources(workflow, "resample_brain")["transform"] == "register_T1w"


def test_further_spaces_apply_the_rules_again_there(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path, "T1w", MNI), CARDS)
    more = {
        f"{step}_{space}"
        for step in ("resample_probability", "label_lesions")
        for space in ("T1w", MNI)
    }
    assert nodes(workflow) == FLAIR_ALONE | T1W_BESIDE | more | {"merge_space_masks"}
    to_t1w = workflow.get_node("resample_probability_T1w")
    assert to_t1w.inputs.grid == str(scan.images["T1w"])
    assert sources(workflow, to_t1w.name) == {
        "in_file": "find_lesions",
        "rigid": "align_to_template",
        "to_flair": "register_T1w",
    }
    to_template = sources(workflow, f"resample_probability_{MNI}")
    assert to_template["to_flair"] == "align_to_template"
    assert workflow.get_node(f"label_lesions_{MNI}").inputs.threshold == 0.5
    assert sources(workflow, "merge_space_masks") == {
        "in1": "label_lesions_T1w",
        "in2": f"label_lesions_{MNI}",
    }
    assert workflow.get_node("save_scan").inputs.spaces == ["T1w", MNI]


def test_separation_brings_the_sphere_map_where_numbers_are_kept(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    config = make_config(tmp_path, "T1w", MNI)
    config = replace(config, method=MethodConfig(separate_lesions=True))
    workflow = init_scan_wf(scan, config, CARDS)
    assert sources(workflow, "label_lesions")["spheres"] == "resample_spheres"
    maps = "resample_spheres", "resample_probability"
    assert sources(workflow, maps[0]) == sources(workflow, maps[1])
    assert len({workflow.get_node(name).inputs.grid for name in maps}) == 1
    for space in ("T1w", MNI):
        assert "spheres" not in sources(workflow, f"label_lesions_{space}")
    assert workflow.get_node("save_scan").inputs.facts["separate_lesions"] is True


def test_t1w_space_brings_the_t1w_in_though_the_method_does_not(tmp_path: Path) -> None:
    scan = make_scan(tmp_path, "FLAIR", "T1w")
    workflow = init_scan_wf(scan, make_config(tmp_path, "T1w"), FLAIR_CARDS)
    assert nodes(workflow) >= T1W_BESIDE
    assert sources(workflow, "resample_probability_T1w")["to_flair"] == "register_T1w"


def test_without_a_t1w_the_t1w_space_is_left_out_and_said(tmp_path: Path) -> None:
    config = make_config(tmp_path, "T1w")
    workflow = init_scan_wf(make_scan(tmp_path, "FLAIR"), config, FLAIR_CARDS)
    assert nodes(workflow) == FLAIR_ALONE
    save = workflow.get_node("save_scan").inputs
    assert save.spaces == []
    assert any("T1w" in warning for warning in save.facts["warnings"])


@pytest.mark.parametrize("step", ["draw_brain", "draw_lesions"])
def test_pictures_do_not_stand_in_the_way_of_results(tmp_path: Path, step: str) -> None:
    workflow = init_scan_wf(make_scan(tmp_path, "FLAIR", "T1w"), make_config(tmp_path), CARDS)
    assert step not in sources(workflow, "save_scan").values()


def test_scans_stand_side_by_side(tmp_path: Path) -> None:
    one = make_scan(tmp_path, "FLAIR", "T1w")
    two = Scan("01", "2", "1", images=one.images)
    workflow = init_participant_wf([one, two], make_config(tmp_path), CARDS)
    per_scan = {name.split(".")[0] for name in workflow.list_node_names()}
    assert per_scan == {"sub_01", "sub_01_ses_2_run_1"}
    between = [edge for edge in workflow._graph.edges if edge[0].name != edge[1].name]
    assert between == []
