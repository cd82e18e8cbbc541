"""Count which scans get a verdict: sound ones, and such as were broken on purpose.

Usage: python -m benchmarks.quality DATA OUT [--half fit score] [-- OPTIONS]

DATA holds openms-raw and ms3seg-raw; OPTIONS are those of the participant level. Writes a BIDS
dataset for each half of the participants into OUT, with sound scans and with broken ones, runs the
participant level on it, and prints the verdict of each scan with its reasons and measures, and how
close sound and broken scans come to each limit. Limits were found on `fit`; `score` has other
participants.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.cross_validation import parse_with_rest, show
from cascade_bids.bids.outputs import find_stats
from cascade_bids.quality.limits import LIMITS

Images = dict[str, nib.Nifti1Image]
"""Contrast to the image of a scan."""

SEED = 0
TURN_DEGREES = 60.0
"""Of a T1w that is not to be registered."""
TOP_MM = 30.0
"""What is cut off."""
NOISE = 0.35
"""Standard deviation of noise in both channels, as a part of the signal of the brain."""
BLUR_MM = 4.0
"""Standard deviation of a Gaussian."""
DIMMED = 0.7
"""Signal of every other slice, as a part of what it was."""
GHOST = 0.3
"""Signal of a ghost, as a part of that of the head."""


def _voxels(image: nib.Nifti1Image) -> np.ndarray:
    return np.maximum(image.get_fdata(dtype=np.float32), 0)


def _like(
    data: np.ndarray, image: nib.Nifti1Image, affine: np.ndarray | None = None
) -> nib.Nifti1Image:
    new = nib.Nifti1Image(data.astype(np.float32), image.affine if affine is None else affine)
    new.header.set_xyzt_units("mm")
    return new


def _signal(data: np.ndarray) -> float:
    """Return the signal of a head, about."""
    return float(np.median(data[data > np.percentile(data, 75)]))


def give_as_flair(contrast: str) -> Callable[[Images, Images], Images]:
    """Give another contrast as the FLAIR, alone."""
    return lambda images, _: {"FLAIR": images[contrast]}


def swap(images: Images, _: Images) -> Images:
    """Exchange FLAIR and T1w."""
    return {"FLAIR": images["T1w"], "T1w": images["FLAIR"]}


def take_other(images: Images, other: Images) -> Images:
    """Take the T1w of another person."""
    return {"FLAIR": images["FLAIR"], "T1w": other["T1w"]}


def turn(images: Images, _: Images) -> Images:
    """Turn the T1w about its centre by its header."""
    image = images["T1w"]
    centre = nib.affines.apply_affine(image.affine, (np.array(image.shape[:3]) - 1) / 2)
    matrix = Rotation.from_euler("x", TURN_DEGREES, degrees=True).as_matrix()
    motion = nib.affines.from_matvec(matrix, centre - matrix @ centre)
    return {"FLAIR": images["FLAIR"], "T1w": _like(_voxels(image), image, motion @ image.affine)}


def cut_half(images: Images, _: Images) -> Images:
    """Keep the right half of the FLAIR, alone."""
    image = nib.as_closest_canonical(images["FLAIR"])
    half = image.shape[0] // 2
    return {"FLAIR": image.slicer[half:]}


def _find_cut(image: nib.Nifti1Image) -> int:
    """Find the first slice that is left out, of an image in RAS+."""
    data = _voxels(image)
    bright = data > 0.3 * _signal(data)
    top = int(np.flatnonzero(bright.mean(axis=(0, 1)) > 0.05).max())
    thick = nib.affines.voxel_sizes(image.affine)[2]
    return top + 1 - round(TOP_MM / thick)


def cut_top(images: Images, _: Images) -> Images:
    """Cut the top off the head on the FLAIR, alone."""
    image = nib.as_closest_canonical(images["FLAIR"])
    return {"FLAIR": image.slicer[:, :, : _find_cut(image)]}


def zero_top(images: Images, _: Images) -> Images:
    """Set the top of the head to 0 on the FLAIR, alone."""
    image = nib.as_closest_canonical(images["FLAIR"])
    data = _voxels(image)
    data[:, :, _find_cut(image) :] = 0
    return {"FLAIR": _like(data, image)}


def give_noise(images: Images, _: Images) -> Images:
    """Give noise as the FLAIR, alone."""
    image = images["FLAIR"]
    rng = np.random.default_rng(SEED)
    return {"FLAIR": _like(rng.rayleigh(100, image.shape[:3]), image)}


def add_noise(images: Images, _: Images) -> Images:
    """Add Rician noise to the FLAIR, alone."""
    image = images["FLAIR"]
    data, rng = _voxels(image), np.random.default_rng(SEED)
    real, imaginary = rng.normal(0, NOISE * _signal(data), (2, *data.shape))
    return {"FLAIR": _like(np.hypot(data + real, imaginary), image)}


def blur(images: Images, _: Images) -> Images:
    """Blur the FLAIR, alone."""
    image = images["FLAIR"]
    sigma = BLUR_MM / nib.affines.voxel_sizes(image.affine)
    return {"FLAIR": _like(ndimage.gaussian_filter(_voxels(image), sigma), image)}


def dim(images: Images, _: Images) -> Images:
    """Dim every other slice of the FLAIR, alone."""
    image = images["FLAIR"]
    slices = int(np.argmax(nib.affines.voxel_sizes(image.affine)))
    data = np.moveaxis(_voxels(image), slices, 0)
    data[::2] *= DIMMED
    return {"FLAIR": _like(np.moveaxis(data, 0, slices), image)}


def add_ghost(images: Images, _: Images) -> Images:
    """Add a ghost of the head, half the field of view away, to the FLAIR, alone."""
    image = images["FLAIR"]
    data = _voxels(image)
    return {"FLAIR": _like(data + GHOST * np.roll(data, data.shape[1] // 2, axis=1), image)}


BREAKAGES: Mapping[str, Callable[[Images, Images], Images]] = {
    "t1wasflair": give_as_flair("T1w"),
    "t2wasflair": give_as_flair("T2w"),
    "swapped": swap,
    "other": take_other,
    "turned": turn,
    "half": cut_half,
    "top": cut_top,
    "topzero": zero_top,
    "noise": give_noise,
    "noisy": add_noise,
    "blurred": blur,
    "dimmed": dim,
    "ghost": add_ghost,
}

SOUND = {
    "fit": ("openms/01/1", "openms/01/2", *(f"ms3seg/{n}" for n in ("02", "04", "07", "09", "13"))),
    "score": (
        "openms/04/1",
        "openms/20/2",
        *(f"ms3seg/{n}" for n in ("03", "06", "08", "12", "14")),
    ),
}
"""Scans of each half without a fault that is known."""

BROKEN = {
    "fit": {
        "t1wasflair": ("openms/01/1", "ms3seg/02"),
        "t2wasflair": ("openms/01/1",),
        "swapped": ("openms/01/2", "ms3seg/07"),
        "other": ("ms3seg/02", "ms3seg/04", "ms3seg/07", "ms3seg/09"),
        "turned": ("openms/01/1", "ms3seg/13"),
        "half": ("openms/01/1", "ms3seg/09"),
        "top": ("openms/01/2", "ms3seg/02"),
        "topzero": ("openms/01/1", "ms3seg/04"),
        "noise": ("openms/01/1",),
        "noisy": ("openms/01/1", "ms3seg/04"),
        "blurred": ("openms/01/2", "ms3seg/09"),
        "dimmed": ("openms/01/1", "ms3seg/07"),
        "ghost": ("openms/01/2",),
    },
    "score": {
        "t1wasflair": ("openms/20/2", "ms3seg/12"),
        "t2wasflair": ("openms/04/1",),
        "swapped": ("openms/04/1", "ms3seg/06", "ms3seg/08"),
        "other": ("openms/20/2", "ms3seg/06", "ms3seg/12", "ms3seg/14"),
        "turned": ("openms/04/1", "ms3seg/08", "ms3seg/14"),
        "half": ("openms/04/1", "ms3seg/12"),
        "top": ("openms/20/2", "ms3seg/06"),
        "topzero": ("openms/04/1", "ms3seg/08"),
        "noise": ("openms/20/2",),
        "noisy": ("openms/20/2", "ms3seg/08"),
        "blurred": ("openms/20/2", "ms3seg/06"),
        "dimmed": ("openms/04/1", "ms3seg/12"),
    },
}
"""Breakage to the scans that are broken by it; `other` has the T1w of the next scan of the half."""


def load_scan(data: Path, name: str) -> Images:
    """Load the images of a scan, such as ``openms/01/1``: source, participant and session."""
    source, label, *session = name.split("/")
    folder = data / f"{source}-raw" / f"sub-{label}"
    folder = folder / f"ses-{session[0]}" if session else folder
    paths = sorted(folder.glob("anat/*.nii.gz"))
    return {path.name.split("_")[-1].split(".")[0]: nib.load(path) for path in paths}


def next_person(half: str, name: str) -> str:
    """Return a scan of the next participant of a half, of the same source if it has one."""
    person = name.split("/")[1]
    # Of sub-03 there is no T1w to take.
    others = [one for one in SOUND[half] if one.split("/")[1] != person and "/03" not in one]
    same = [one for one in others if one.split("/")[0] == name.split("/")[0]]
    return next((one for one in same or others if one > name), (same or others)[0])


def write_half(data: Path, half: str, bids: Path) -> None:
    """Write a BIDS dataset of the scans of a half, sound and broken."""
    bids.mkdir(parents=True, exist_ok=True)
    about = {"Name": half, "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(about))
    todo = [("sound", name) for name in SOUND[half]]
    todo += [(kind, name) for kind, names in BROKEN[half].items() for name in names]
    for kind, name in todo:
        images = load_scan(data, name)
        if kind == "sound":
            images = {key: images[key] for key in ("FLAIR", "T1w") if key in images}
        else:
            images = BREAKAGES[kind](images, load_scan(data, next_person(half, name)))
        label = f"sub-{kind}{name.replace('/', '')}"
        for contrast, image in images.items():
            path = bids / label / "anat" / f"{label}_{contrast}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                image.to_filename(path)


def run(bids: Path, out: Path, *options: str) -> None:
    """Run the participant level."""
    program = Path(sys.executable).with_name("cascade-bids")
    subprocess.run([program, bids, out, "participant", *options], check=True)


def read_verdicts(out: Path) -> pd.DataFrame:
    """Read the verdicts of all scans, with their measures."""
    rows = []
    for entities, path in find_stats(out):
        quality = json.loads(path.read_text())["quality"]
        row = {"scan": entities["subject"], "verdict": quality["verdict"]}
        rows.append({**row, "reasons": " ".join(quality["reasons"]), **quality["measures"]})
    return pd.DataFrame(rows)


def compare_limits(table: pd.DataFrame) -> pd.DataFrame:
    """Compare how close scans come to each limit: the sound ones, and the broken ones beyond it."""
    sound = table["scan"].str.startswith("sound")
    rows = []
    for limit in LIMITS:
        for side in ("warn_below", "warn_above", "fail_below", "fail_above"):
            value, verdict = getattr(limit, side), side.split("_")[0]
            if limit.measure not in table or not math.isfinite(value):
                continue
            # Turned round where lower values are flagged, so that the highest is always closest.
            sign = 1 if side.endswith("above") else -1
            found = sign * table[limit.measure].astype(float)
            beyond = found[~sound & (found > sign * value)]
            row = {"limit": f"{verdict} {'>' if sign > 0 else '<'} {value:g}"}
            row |= {"sound": sign * found[sound].max(), "broken beyond": len(beyond)}
            rows.append({"measure": limit.measure, **row, "closest": sign * beyond.min()})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the verdicts, and how many broken and sound scans were flagged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", nargs="+", choices=list(SOUND), default=list(SOUND))
    options, further = parse_with_rest(parser)
    for half in options.half:
        bids, out = options.out / f"bids-{half}", options.out / f"out-{half}"
        write_half(options.data, half, bids)
        run(bids, out, "-w", str(options.out / "work"), *further)
        table = read_verdicts(out)
        for row in table.to_dict("records"):
            print(f"{half}: {row['scan']}: {row['verdict']}. {row['reasons']}", flush=True)
        sound = table["scan"].str.startswith("sound")
        measures = table.drop(columns=["verdict", "reasons"]).set_index("scan").astype(float)
        show(f"{half}: measures", measures)
        spread = measures[sound.to_numpy()].agg(["min", "max"]).T
        show(f"{half}: measures of sound scans", spread)
        show(f"{half}: closest to the limits", compare_limits(table), index=False)
        for name, part in (("broken", table[~sound]), ("sound", table[sound])):
            counts = part["verdict"].value_counts().to_dict()
            print(f"{half}: {len(part)} {name} scans: {counts}", flush=True)


if __name__ == "__main__":
    main()
