"""Cards: read once in a run, and another card never meets what an old one left."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cascade_bids.models.card import WEIGHTS_DIR

from ..tiny_heads import contents, image_path, make_dataset, run, stats

OPENED: list[str] = []
"""Cards and weights that were opened since the list was emptied."""


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | Path):
        path = Path(arguments[0])
        if path.parent.name == "weights" and path.suffix in (".json", ".safetensors"):
            OPENED.append(path.name)


sys.addaudithook(note_opened)


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "bids", "sub-01", "sub-02")


def copy_card(folder: Path, **changes: object) -> Path:
    """Copy a shipped method, and change entries of its card."""
    folder.mkdir(exist_ok=True)
    for path in WEIGHTS_DIR.glob("valverde2017*"):
        shutil.copyfile(path, folder / path.name)
    card = folder / "valverde2017.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))
    return card


def test_every_card_is_opened_once(quick: Counter[str], bids: Path, tmp_path: Path) -> None:
    OPENED.clear()
    assert run(bids, tmp_path / "out").code == 0
    opened = Counter(OPENED)
    assert opened["valverde2017.json"] == opened["brain.json"] == 1
    assert not any(name.endswith(".json") and "ensemble" in name for name in opened)


@pytest.mark.parametrize(
    "changes",
    [{"combination": "product"}, {"temperature": 2.0}, {"seed": 99}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_card_runs_the_networks_anew_in_an_old_work_folder(
    quick: Counter[str], bids: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    work = ("-w", tmp_path / "work")
    card = copy_card(tmp_path / "mine")
    assert run(bids, tmp_path / "out", "--method", card, *work).code == 0
    assert quick["predict_lesions"] == 2
    assert run(bids, tmp_path / "out", "--method", card, *work).code == 0
    assert quick["predict_lesions"] == 2
    card = copy_card(tmp_path / "mine", **changes)
    assert run(bids, tmp_path / "out", "--method", card, *work).code == 0
    assert quick["predict_lesions"] == 4
    # What does not depend on the card is not repeated.
    assert quick["correct_bias"] == 4


def test_a_changed_threshold_gives_another_mask_in_an_old_work_folder(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    work = ("-w", tmp_path / "work")
    loads = []
    for number, threshold in enumerate((0.5, 0.95, 0.5)):
        card = copy_card(tmp_path / "mine", threshold=threshold)
        out = tmp_path / f"out{number}"
        assert run(bids, out, "--method", card, *work).code == 0
        told = stats(out, "sub-01")
        assert told is not None
        loads.append((told["threshold"], told["load_ml"] > 0))
    assert loads == [(0.5, True), (0.95, False), (0.5, True)]
    mask = image_path(tmp_path, "sub-01", "x").with_name(
        "sub-01_space-FLAIR_label-lesion_mask.nii.gz"
    )
    masks = [contents(tmp_path / f"out{n}")[str(mask.relative_to(tmp_path))] for n in range(3)]
    assert masks[0] == masks[2] != masks[1]


def test_the_operating_point_may_be_chosen_and_then_nothing_calibrated_is_told(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    card = copy_card(tmp_path / "mine", load_factor=2.0, confidence=[0, 1, 1], peak=0.6)
    told = {}
    for name, options in {
        "own": (),
        "higher": ("--threshold", 0.95),
        "large": ("--min-lesion-mm3", 1e6),
    }.items():
        done = run(bids, tmp_path / name, "--method", card, *options)
        assert done.code == 0, done.text
        told[name] = stats(tmp_path / name, "sub-01")
    point = ("threshold", "min_lesion_mm3", "peak")
    assert [told["own"][entry] for entry in point] == [0.5, 10.0, 0.6]
    assert [told["higher"][entry] for entry in point] == [0.95, 10.0, 0.95]
    assert [told["large"][entry] for entry in point] == [0.5, 1e6, 0.6]
    assert told["own"]["load_ml"] > 0 == told["higher"]["load_ml"] == told["large"]["load_ml"]
    assert told["own"]["load_interval_ml"] is not None
    assert told["higher"]["load_interval_ml"] is told["large"]["load_interval_ml"] is None
