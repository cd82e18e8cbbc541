"""Accuracy of the preprocessing of a run, beside that of an earlier run on the same images.

Usage: python benchmarks/preprocessing.py OPENMS_RAW OUT WORK EARLIER_OUT EARLIER_WORK
       python benchmarks/preprocessing.py MS3SEG_RAW OUT

With one output folder, it prints the volume of the brain (ml) of each scan, and the part of its
labelled lesions that lies inside.

With two, and their work folders, it prints for each session the Dice of the brain with the
reference, and the mean distance (mm, over the brain) between the registration of each image and the
reference; then, between both runs, the mean distance and the rotation of the alignment to the
template, of its rigid part, and of the network grid, and the standard deviation of the logarithm of
the ratio of the N4 fields inside the brain.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from scipy.linalg import polar

from cascade_bids.metrics.overlap import dice
from cascade_bids.preprocess.registration import rigid_part
from cascade_bids.transforms import read_transform

MNI = "MNI152NLin2009aSym"


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask (X, Y, Z) bool and its affine."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj) > 0, image.affine


def distance_mm(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> float:
    """Return the mean distance between where two transforms bring points (N, 3)."""
    return float(
        np.linalg.norm(apply_affine(one, points) - apply_affine(other, points), axis=1).mean()
    )


def rotation_degrees(one: np.ndarray, other: np.ndarray) -> float:
    """Return the angle between the rotations of two transforms."""
    turn = polar(one[:3, :3])[0].T @ polar(other[:3, :3])[0]
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def steps_folder(work: Path, session: str) -> Path:
    """Return where the steps of a session are in a work folder."""
    (folder,) = work.glob(f"*/cascade_bids/{session.replace('-', '_')}")
    return folder


def read_field(work: Path, session: str, contrast: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the N4 field (X, Y, Z) of an image, and where its tissue is, from a work folder."""
    folder = steps_folder(work, session)
    image, corrected, brain = (
        np.asarray(
            nib.Nifti1Image.from_filename(
                next(folder.glob(f"{step}_{contrast}/{name}.nii*"))
            ).dataobj
        )
        for step, name in (
            ("conform", "conform"),
            ("correct_bias", "n4"),
            ("extract_brain", "brain"),
        )
    )
    tissue = (brain > 0) & (corrected > 0.1 * np.percentile(corrected[brain > 0], 95))
    return np.divide(image, corrected, out=np.ones_like(image), where=tissue), tissue


def compare_session(
    data: Path, session: str, runs: dict[str, tuple[Path, Path]]
) -> dict[str, float | str]:
    """Compute the row of a session."""
    subject, visit = session.split("_")
    row: dict[str, float | str] = {"session": session}
    reference = data / "derivatives/reference" / subject / visit / "anat"
    aligned, rigid, fields = {}, {}, {}
    for name, (out, work) in runs.items():
        stem = out / subject / visit / "anat" / session
        brain, affine = read_mask(Path(f"{stem}_space-FLAIR_desc-brain_mask.nii.gz"))
        known, _ = read_mask(reference / f"{session}_space-FLAIR_desc-brain_mask.nii.gz")
        row[f"brain_dice_{name}"] = dice(brain, known)
        points = apply_affine(affine, np.argwhere(brain)[::100])
        for contrast in ("T1w", "T2w"):
            ending = f"from-{contrast}_to-FLAIR_mode-image_xfm.txt"
            if Path(f"{stem}_{ending}").exists():
                pair = (Path(f"{stem}_{ending}"), reference / f"{session}_{ending}")
                row[f"{contrast}_mm_{name}"] = distance_mm(*map(read_transform, pair), points)
        template = read_transform(Path(f"{stem}_from-FLAIR_to-{MNI}_mode-image_xfm.txt"))
        aligned[name] = template
        rigid[name] = read_transform(steps_folder(work, session) / "align_to_template/rigid.txt")
        fields[name] = read_field(work, session, "FLAIR")
    new, old = runs
    parts = {name: rigid_part(affine) for name, affine in aligned.items()}
    compared = {"affine": aligned, "rigid_part": parts, "network_grid": rigid}
    for what, found in compared.items():
        inverse = {name: np.linalg.inv(one) for name, one in found.items()}
        row[f"{what}_mm"] = distance_mm(inverse[new], inverse[old], points)
        row[f"{what}_degrees"] = rotation_degrees(found[new], found[old])
    (field, tissue), (earlier, same) = fields[new], fields[old]
    both = tissue & same
    row["field_sd"] = float(np.log(field[both] / earlier[both]).std())
    row["earlier_field_sd"] = float(np.log(earlier[both]).std())
    return row


def check_lesions(data: Path, out: Path) -> pd.DataFrame:
    """Return for each scan the volume of its brain and the part of its lesions inside."""
    rows = []
    for path in sorted(out.glob("sub-*/anat/*_space-FLAIR_desc-brain_mask.nii.gz")):
        scan = path.name.split("_")[0]
        brain, affine = read_mask(path)
        (manual,) = (data / "derivatives/manual" / scan / "anat").glob("*mask.nii.gz")
        lesions, _ = read_mask(manual)
        ml = brain.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
        inside = float((lesions & brain).sum() / lesions.sum())
        rows.append({"scan": scan, "brain_ml": round(ml), "lesions_inside": round(inside, 4)})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="openms-raw or ms3seg-raw")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="OUT [WORK EARLIER_OUT EARLIER_WORK]"
    )
    options = parser.parse_args()
    data, folders = options.data, options.folders
    if len(folders) not in (1, 4):
        parser.error("give OUT, or OUT WORK EARLIER_OUT EARLIER_WORK")
    if len(folders) == 1:
        table = check_lesions(data, folders[0])
        if table.empty:
            parser.error(f"{folders[0]} holds no brain mask of a scan without sessions")
        print(table.to_string(index=False))
        return
    runs = {"now": (folders[0], folders[1]), "earlier": (folders[2], folders[3])}
    stats = sorted(folders[0].glob("sub-*/ses-*/anat/*_stats.json"))
    sessions = [path.name.removesuffix("_desc-lesions_stats.json") for path in stats]
    table = pd.DataFrame([compare_session(data, one, runs) for one in sessions])
    print(table.round(3).T.to_string(header=False))


if __name__ == "__main__":
    main()
