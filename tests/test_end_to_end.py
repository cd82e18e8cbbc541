"""The product as a user runs it, nothing replaced: on a phantom, and on a real patient."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cascade_bids.metrics.overlap import dice, mean_displacement_mm
from cascade_bids.phantom import PhantomScan, write_phantom
from cascade_bids.transforms import read_transform

from .tiny_heads import assert_tidy, contents, validator_errors

pytestmark = pytest.mark.slow

RUN_PY = Path(__file__).resolve().parents[1] / "run.py"
EXPECTED = Path(__file__).with_name("expected")
"""What a run on the phantom gives: ``outputs.txt``, and ``numbers.json`` within `TOLERANCE`."""
TOLERANCE = 0.05
"""Relative: machines differ in the last bits, and registration in little more."""
LIMIT_S = 1800
"""A scan takes about two minutes on two free cores; a machine may have other work."""


class Processed(NamedTuple):
    bids: Path
    out: Path
    label: str
    done: subprocess.CompletedProcess[str]

    def path(self, name: str) -> Path:
        return self.out.joinpath(*self.label.split("_"), "anat", f"{self.label}_{name}")

    def voxels(self, name: str) -> np.ndarray:
        return np.asarray(nib.load(self.path(name)).dataobj)

    @property
    def stats(self) -> dict:
        return json.loads(self.path("desc-lesions_stats.json").read_text())

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.path("space-FLAIR_desc-lesions_dseg.tsv"), sep="\t")


def cascade_bids(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN_PY), *(str(argument) for argument in arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def process(bids: Path, out: Path, label: str, **environment: str) -> Processed:
    subject = label.split("_")[0]
    options = ("--participant-label", subject, "--nprocs", 2)
    done = cascade_bids(bids, out, "participant", *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return Processed(bids, out, label, done)


# --- A phantom, whose truth is known ---


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantom")


@pytest.fixture(scope="session")
def planted(phantom_dir: Path) -> PhantomScan:
    return write_phantom(phantom_dir / "bids")[0]


@pytest.fixture(scope="session")
def phantom(phantom_dir: Path, planted: PhantomScan) -> Processed:
    watched = {name: phantom_dir / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in watched.values():
        folder.mkdir()
    watched |= {"input": phantom_dir / "bids", "program": RUN_PY.parent / "cascade_bids"}
    before = {name: contents(folder) for name, folder in watched.items()}
    environment = {name: str(path) for name, path in watched.items() if name.isupper()}
    environment |= note_opened_cards(phantom_dir)
    processed = process(
        phantom_dir / "bids",
        phantom_dir / "out",
        planted.label,
        PYTHONDONTWRITEBYTECODE="1",
        **environment,
    )
    for name, folder in watched.items():
        assert contents(folder) == before[name], f"{name} was written to"
    return processed


def note_opened_cards(folder: Path) -> dict[str, str]:
    """Let every process that has this environment note which cards it opens."""
    hook = folder / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(
        "import sys\n"
        "def note(event, arguments):\n"
        "    name = str(arguments[0]) if event == 'open' else ''\n"
        "    if '/data/weights/' in name and name.endswith('.json'):\n"
        f"        with open({str(folder / 'opened')!r}, 'a') as log:\n"
        "            log.write(name.rsplit('/', 1)[1] + '\\n')\n"
        "sys.addaudithook(note)\n"
    )
    return {"PYTHONPATH": str(hook.parent)}


def test_every_card_is_opened_once_by_all_processes_together(
    phantom: Processed, phantom_dir: Path
) -> None:
    opened = (phantom_dir / "opened").read_text().split()
    assert sorted(opened) == ["brain.json", "ensemble.json"]


def test_the_run_says_what_it_did(phantom: Processed) -> None:
    assert "1 complete, 0 failed" in phantom.done.stdout
    assert str(phantom.out) in phantom.done.stdout
    assert_tidy(phantom.out)


def test_every_output_lies_on_the_grid_of_the_flair(
    phantom: Processed, planted: PhantomScan
) -> None:
    flair = nib.load(planted.flair)
    images = sorted(phantom.out.rglob("*_space-FLAIR_*.nii.gz"))
    assert len(images) == 6
    for path in images:
        image = nib.load(path)
        assert image.shape == flair.shape
        np.testing.assert_allclose(image.affine, flair.affine, atol=1e-3)


def test_the_brain_is_that_of_the_phantom(phantom: Processed, planted: PhantomScan) -> None:
    truth = np.asarray(nib.load(planted.brain_mask).dataobj)
    found = phantom.voxels("space-FLAIR_desc-brain_mask.nii.gz")
    assert dice(found, truth) > 0.85
    assert phantom.stats["icv_ml"] == pytest.approx(planted.icv_ml, rel=0.25)


def test_the_registration_finds_how_the_head_moved(
    phantom: Processed, planted: PhantomScan
) -> None:
    found = read_transform(phantom.path("from-T1w_to-FLAIR_mode-image_xfm.txt"))
    points = brain_points(planted.brain_mask)
    assert mean_displacement_mm(found, planted.t1w_from_flair, points) < 1
    assert mean_displacement_mm(np.eye(4), planted.t1w_from_flair, points) > 1


def test_table_masks_and_stats_tell_the_same_lesions(phantom: Processed) -> None:
    stats, table = phantom.stats, phantom.table
    labels = phantom.voxels("space-FLAIR_desc-lesions_dseg.nii.gz")
    mask = phantom.voxels("space-FLAIR_label-lesion_mask.nii.gz")
    probability = phantom.voxels("space-FLAIR_label-lesion_probseg.nii.gz")
    zooms = nib.load(phantom.path("space-FLAIR_desc-lesions_dseg.nii.gz")).header.get_zooms()
    voxel_mm3 = float(np.prod(zooms))

    assert len(table) == stats["count"] >= 1
    assert list(table["index"]) == list(range(1, len(table) + 1))
    volumes_mm3 = np.bincount(labels.ravel())[1:] * voxel_mm3
    np.testing.assert_allclose(table["volume_mm3"], volumes_mm3, rtol=1e-3)
    assert table["volume_mm3"].min() >= stats["min_lesion_mm3"] * 0.999
    assert table["volume_mm3"].sum() / 1000 == pytest.approx(stats["load_ml"], rel=1e-3)
    assert stats["load_percent_icv"] == pytest.approx(
        100 * stats["load_ml"] / stats["icv_ml"], rel=1e-3
    )
    for value in ("load_ml", "count"):
        parts = sum(part[value] for part in stats["by_location"].values())
        assert parts == pytest.approx(stats[value], rel=1e-3)
    np.testing.assert_array_equal(mask, labels > 0)
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert probability[labels > 0].min() >= stats["threshold"]
    highest = [probability[labels == index].max() for index in table["index"]]
    np.testing.assert_allclose(table["max_probability"], highest, atol=1e-3)


def test_the_report_shows_the_scan(phantom: Processed) -> None:
    page = (phantom.out / f"{phantom.label}.html").read_text()
    for name in ("brain", "lesions"):
        figure = f"{phantom.label}/figures/{phantom.label}_desc-{name}_mosaic.svg"
        assert figure in page
        assert (phantom.out / figure).is_file()
    assert f"{phantom.stats['load_ml']:.2f}" in page


@pytest.fixture(scope="session")
def cohort(phantom: Processed) -> pd.DataFrame:
    done = cascade_bids(phantom.bids, phantom.out, "group")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(phantom.out / "lesions.tsv", sep="\t")


def test_the_cohort_report_follows(phantom: Processed, cohort: pd.DataFrame) -> None:
    assert (phantom.out / "group.html").is_file()
    assert list(cohort["participant_id"]) == ["sub-01"]
    assert cohort["load_ml"][0] == pytest.approx(phantom.stats["load_ml"])
    assert cohort["lesion_count"][0] == phantom.stats["count"]


def test_the_outputs_are_those_that_were_committed(
    phantom: Processed, cohort: pd.DataFrame
) -> None:
    """A change of the outputs is a change of this listing."""
    files = [path for path in phantom.out.rglob("*") if path.is_file()]
    found = sorted(path.relative_to(phantom.out).as_posix() for path in files)
    expected = (EXPECTED / "outputs.txt").read_text().split()
    assert [name for name in found if not name.startswith("logs/")] == expected


def test_the_numbers_are_those_that_were_committed(phantom: Processed) -> None:
    for name, value in json.loads((EXPECTED / "numbers.json").read_text()).items():
        assert phantom.stats[name] == pytest.approx(value, rel=TOLERANCE), name


def test_the_official_validator_accepts_it(phantom: Processed) -> None:
    assert validator_errors(phantom.out) == []


# --- A real patient, against the reference of the people who made the data ---


@pytest.fixture(scope="session")
def real_data(shared_data: Path) -> Path:
    folder = shared_data / "openms-raw"
    if not folder.is_dir():
        pytest.skip(f"the raw scans of open_ms_data are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def patient(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Processed:
    return process(real_data, tmp_path_factory.mktemp("real") / "out", "sub-20_ses-2")


@pytest.fixture(scope="session")
def reference(real_data: Path) -> Path:
    return real_data / "derivatives/reference/sub-20/ses-2/anat"


def test_the_brain_of_a_patient(patient: Processed, reference: Path) -> None:
    truth = nib.load(reference / "sub-20_ses-2_space-FLAIR_desc-brain_mask.nii.gz")
    found = patient.voxels("space-FLAIR_desc-brain_mask.nii.gz")
    assert dice(found, np.asarray(truth.dataobj)) > 0.94


def test_the_registration_of_a_patient(patient: Processed, reference: Path) -> None:
    name = "from-T1w_to-FLAIR_mode-image_xfm.txt"
    found = read_transform(patient.path(name))
    truth = read_transform(reference / f"sub-20_ses-2_{name}")
    mask = reference / "sub-20_ses-2_space-FLAIR_desc-brain_mask.nii.gz"
    assert mean_displacement_mm(found, truth, brain_points(mask)) <= 1


def brain_points(mask: Path) -> np.ndarray:
    """Give the world coordinates (N, 3) of the voxels of a mask."""
    image = nib.load(mask)
    return nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))
