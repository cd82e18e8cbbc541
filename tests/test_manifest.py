"""Other programs take the manifest of the compared sessions as it is."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cascade_bids.app.manifest import MANIFEST

from .test_sessions import paint, table
from .tiny_heads import image_path, make_dataset, run

WHY = "not installed; pip install -e '.[peers]'"


@pytest.fixture
def out(quick: Counter[str], tmp_path: Path) -> Path:
    """Two participants with two sessions: one with times, one without."""
    labels = [f"sub-{subject}_ses-{session}" for subject in ("01", "02") for session in (1, 2)]
    bids = make_dataset(tmp_path / "bids", *labels)
    paint(image_path(bids, "sub-01_ses-2", "FLAIR"))
    times = "session_id\tacq_time\nses-1\t2020-03-01T10:00:00\nses-2\t2020-09-01T10:00:00\n"
    (bids / "sub-01" / "sub-01_sessions.tsv").write_text(times)
    folder = tmp_path / "out"
    assert run(bids, folder).code == 0
    assert run(bids, folder, level="group").code == 0
    return folder


def test_the_manifest_names_images_on_one_grid_of_participants_with_times(out: Path) -> None:
    rows = pd.read_csv(out / MANIFEST, sep="\t")
    assert rows["subject"].tolist() == ["sub-01", "sub-01"]
    assert rows["time_years"].tolist() == [0.0, pytest.approx(0.504, abs=0.001)]
    images = [nib.load(out / path) for path in rows[["t1", "flair", "mask", "brainmask"]].stack()]
    assert len({(image.shape, image.affine.tobytes()) for image in images}) == 1


def test_lesiontrack_sees_the_same_new_lesion(out: Path) -> None:
    pytest.importorskip("lesiontrack", reason=f"lesiontrack is {WHY}")
    from lesiontrack.cli import read_manifest
    from lesiontrack.tracking import track_pair

    (sessions,) = read_manifest(out / MANIFEST).values()
    masks = [nib.load(session.mask) for session in sessions]
    voxel_mm3 = abs(np.linalg.det(masks[0].affine[:3, :3]))
    years = sessions[1].time_years - sessions[0].time_years
    tracked, _ = track_pair(*(np.asarray(mask.dataobj) > 0 for mask in masks), years, voxel_mm3)
    ours = table(out)
    assert (tracked["class"] == "new").sum() == (ours["class"] == "new").sum() == 1


def test_mscard_takes_the_manifest(out: Path) -> None:
    pytest.importorskip("mscard", reason=f"mscard is {WHY}")
    from mscard.spec import check_scan_grid, read_manifest

    (scans,) = read_manifest(out / MANIFEST).values()
    assert [scan.session for scan in scans] == ["ses-1", "ses-2"]
    for scan in scans:
        check_scan_grid(scan)


def test_msdataqc_takes_the_common_grid(out: Path) -> None:
    pytest.importorskip("msdataqc", reason=f"msdataqc is {WHY}")
    program = Path(sys.executable).with_name("msdataqc")
    done = subprocess.run(
        [program, "gtdrift", "--manifest", MANIFEST],
        cwd=out,
        capture_output=True,
        text=True,
        check=True,
    )
    header, row = (line.split("\t") for line in done.stdout.splitlines())
    found = dict(zip(header, row, strict=True))
    assert (found["subject"], found["timepoints"], found["sites"]) == ("sub-01", "2", "2")
