"""Odd names of files, participants and sessions, and which of several images is taken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from ..tiny_heads import Run, stats
from .heads import Case, draw_head
from .rows import (
    Named,
    Refused,
    Right,
    Row,
    assert_load,
    check_tiny,
    measure_tiny,
    parametrize,
)

ANY_NAME = ("--skip-bids-validation",)


def rename(name: str) -> Callable[[Case], object]:
    """Rename the only FLAIR of sub-01."""
    return lambda case: case.flair.rename(case.anat / name)


def both(function: Callable[[Case], object], *names: str) -> Callable[[Case], object]:
    def spoil(case: Case) -> None:
        function(case)
        beside(*names)(case)

    return spoil


def beside(*names: str) -> Callable[[Case], object]:
    """Put dark images, whose voxels are finer, beside the FLAIR of sub-01."""

    def spoil(case: Case) -> None:
        for name in names:
            write_dark(case.anat / name)

    return spoil


def write_dark(path: Path) -> None:
    """Write a head without a lesion, in finer voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = draw_head("T1w")
    affine = image.affine.copy()
    affine[:3, :3] /= 2
    # nibabel writes no file of another name.
    part = path.with_name("part.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj), affine).to_filename(part)
    part.rename(path)


def rename_participant(label: str) -> Callable[[Case], object]:
    """Rename folder and file of sub-01."""

    def spoil(case: Case) -> None:
        case.flair.rename(case.anat / f"{label}_FLAIR.nii.gz")
        case.anat.parent.rename(case.bids / label)

    return spoil


def into_session(case: Case) -> None:
    """Give sub-02 sessions, where sub-01 has none."""
    old = case.image("FLAIR", "sub-02")
    for session in ("1", "2"):
        new = case.image("FLAIR", f"sub-02_ses-{session}")
        new.parent.mkdir(parents=True)
        shutil.copyfile(old, new)
    shutil.rmtree(old.parent)


def all_sessions(case: Case, done: Run) -> None:
    for label in ("sub-01", "sub-02_ses-1", "sub-02_ses-2"):
        assert stats(case.out, label) is not None


def beside_sessions(case: Case) -> None:
    """Give sub-01 an image in a session, beside one in none."""
    path = case.image("FLAIR", "sub-01_ses-1")
    path.parent.mkdir(parents=True)
    shutil.copyfile(case.flair, path)


def other_session(case: Case) -> None:
    """Put the image of session 2 into the folder of session 1."""
    path = case.image("FLAIR", "sub-01_ses-1")
    path.parent.mkdir(parents=True)
    case.flair.rename(path.with_name("sub-01_ses-2_FLAIR.nii.gz"))
    case.anat.rmdir()


def two_runs(case: Case) -> None:
    """Make two runs alike but for the lesion, which the second lacks."""
    case.flair.rename(case.anat / "sub-01_run-1_FLAIR.nii.gz")
    draw_head("T1w").to_filename(case.anat / "sub-01_run-2_FLAIR.nii.gz")


def into_folder(name: str) -> Callable[[Case], object]:
    """Put the FLAIR of sub-01 into another folder of the participant."""

    def spoil(case: Case) -> None:
        folder = case.anat.parent / name
        folder.mkdir(parents=True)
        case.flair.rename(folder / case.flair.name)

    return spoil


def list_in_bidsignore(case: Case) -> None:
    (case.bids / ".bidsignore").write_text("*_acq-bad_*\n")
    beside("sub-01_acq-bad_FLAIR.nii.gz")(case)


def tell_agent(case: Case) -> None:
    """Tell in the sidecar alone that there was a contrast agent."""
    beside("sub-01_acq-post_T1w.nii.gz")(case)
    told = {"ContrastBolusIngredient": "GADOLINIUM"}
    case.write_json("sub-01/anat/sub-01_acq-post_T1w.json", told)


def copy_of_another(case: Case) -> None:
    """Put the finer image of sub-02 into the folder of sub-01."""
    write_dark(case.anat / "sub-02_FLAIR.nii.gz")


def longer_label(case: Case) -> None:
    """Add a folder whose name goes on behind that of a participant."""
    write_dark(case.bids / "sub-01_y" / "anat" / "sub-01_y_FLAIR.nii.gz")


def named(case: Case, done: Run, label: str) -> None:
    assert label in done.text


def with_t1w(spoil: Callable[[Case], object], name: str, ends: Right, **more: object) -> Row:
    return Row(name, spoil, ends, contrasts=("FLAIR", "T1w"), **more)  # type: ignore[arg-type]


def sound_beside(label: str) -> Row:
    return Row(
        f"participant {label}",
        rename_participant(label),
        Named(("label|rename",), label=label),
        options=lambda case: ANY_NAME,
    )


ROWS = [
    *(
        Row(f"name {name}", rename(name), Named(("No image|No FLAIR", word)))
        for name, word in (
            ("sub-01_FLAIR.NII.GZ", r"sub-01_FLAIR\.NII\.GZ .*in lower case"),
            ("sub-01_FLAIR.dcm", r"sub-01_FLAIR\.dcm .*convert"),
            ("sub-01_flair.nii.gz", "sub-01_flair"),
            ("sub-01_Flair.nii.gz", "sub-01_Flair"),
            ("sub-01_space-T1w_FLAIR.nii.gz", "space-T1w"),
            ("sub-01_acq-FLAIR_T2w.nii.gz", "acq-FLAIR_T2w"),
            ("sub-01_acq-3d.v2_FLAIR.nii.gz", "3d.v2"),
            ("sub-01_acq-3d_FLAIR..nii.gz", "FLAIR"),
            ("sub-01 _FLAIR.nii.gz", "FLAIR"),
            ("sub-01_acq-a b_FLAIR.nii.gz", "FLAIR"),
            ("FLAIR.nii.gz", "FLAIR"),
            ("sub-01_FLAIR (1).nii.gz", "FLAIR"),
            ("sub-01_FLAIR.img", r"sub-01_FLAIR\.img .*pair"),
            ("sub-01_inv-2_FLAIR.nii.gz", "inv-2"),
            ("sub-02_FLAIR.nii.gz", "sub-02_FLAIR"),
        )
    ),
    *(
        Row(f"beside {name}", beside(name), Right(), options=lambda case: ANY_NAME)
        for name in (
            "._sub-01_FLAIR.nii.gz",
            ".sub-01_acq-hidden_FLAIR.nii.gz",
            "sub-01_FLAIR.nii.gz.bak",
            "sub-01_FLAIR.nii.gz~",
            "sub-01_ce-gadolinium_FLAIR.nii.gz",
            "sub-01_mt-on_FLAIR.nii.gz",
            "sub-01_part-phase_FLAIR.nii.gz",
            "sub-01_part-imag_FLAIR.nii.gz",
            "sub-01_FLAIRmap.nii.gz",
            "sub-01_desc-brain_mask.nii.gz",
            "sub-01_acq-gd_FLAIR.nii.gz",
            "sub-01_chunk-1_FLAIR.nii.gz",
        )
    ),
    *(
        Row(f"only {name}", rename(name), Right(label=label))
        for name, label in (
            ("sub-01_run-2_FLAIR.nii.gz", "sub-01_run-2"),
            ("sub-01_run-02_FLAIR.nii.gz", "sub-01_run-02"),
            ("sub-01_echo-1_FLAIR.nii.gz", "sub-01"),
            ("sub-01_part-mag_FLAIR.nii.gz", "sub-01"),
            ("sub-01_acq-3d_rec-norm_FLAIR.nii.gz", "sub-01"),
        )
    ),
    Row(
        "only a FLAIR with a contrast agent",
        rename("sub-01_ce-gd_FLAIR.nii.gz"),
        Named(("contrast agent", "Add one")),
    ),
    Row(
        "only parts of a FLAIR",
        both(rename("sub-01_chunk-1_FLAIR.nii.gz"), "sub-01_chunk-2_FLAIR.nii.gz"),
        Named(("chunk", "Add one")),
    ),
    Row("several runs", two_runs, Right(label="sub-01_run-1")),
    with_t1w(
        beside("sub-01_acq-gd_T1w.nii.gz"), "acq-gd beside a T1w", Right()
    ),
    with_t1w(tell_agent, "agent in the sidecar", Right()),
    Row(
        "no T1w, which the method needs",
        lambda case: case.image("T1w").unlink(),
        Named(("no T1w image", "add it|--method")),
        contrasts=("FLAIR", "T1w"),
    ),
    Row("no FLAIR", lambda case: case.flair.unlink(), Named(("No image is found", "FLAIR"))),
    Row(
        "T1w alone",
        lambda case: case.flair.unlink(),
        Named(("FLAIR is required", "There is none", "Add one")),
        contrasts=("FLAIR", "T1w"),
    ),
    Row(
        "FLAIR beside anat/ with a T1w",
        into_folder("fluid"),
        Named(("FLAIR is required", "fluid/sub-01_FLAIR.nii.gz is passed over", "move it")),
        contrasts=("FLAIR", "T1w"),
    ),
    *(
        Row(f"in {folder}", into_folder(folder), Named(("No image", "sub-01_FLAIR.nii.gz", word)))
        for folder, word in (
            ("mri", "anat/ of a participant"),
            ("ANAT", "anat/ of a participant"),
            ("anat/extra", "anat/ of a participant"),
            ("ses-1", "anat/ of a participant"),
            ("ses-/anat", "has no label"),
        )
    ),
    Row("FLAIR of another session", other_session, Named(("ses-2",), label="sub-01_ses-1")),
    Row("sessions of some participants", into_session, Right(labels=("sub-01", "sub-02")),
        also=all_sessions),
    Row(
        "an image beside sessions",
        beside_sessions,
        Right(),
        also=lambda case, done: named(case, done, "sub-01_ses-1"),
    ),
    Row(
        "an image of another participant",
        copy_of_another,
        Right(),
        options=lambda case: ANY_NAME,
        also=lambda case, done: named(case, done, "sub-02_FLAIR.nii.gz"),
    ),
    Row(
        "a label that goes on behind another",
        longer_label,
        Named(("label",), label="sub-01_y", labels=("sub-01", "sub-02")),
        options=lambda case: ANY_NAME,
        also=lambda case, done: assert_load(case, "sub-01", measure_tiny(("FLAIR",)), 0.05),
    ),
    Row("files listed in .bidsignore", list_in_bidsignore, Right()),
    sound_beside("sub-é1"),
    sound_beside("sub-<i>x<i>"),
    sound_beside("sub-a b"),
    sound_beside("sub-1.5"),
    sound_beside("sub-[0-9]"),
    sound_beside("sub-*"),
    Row(
        "a folder sub- without a label",
        rename_participant("sub-"),
        Right(label="sub-02", labels=("sub-01", "sub-02")),
        also=lambda case, done: named(case, done, "sub- is passed over"),
    ),
    Row(
        "a participant with a line break",
        rename_participant("sub-a\nb"),
        Right(label="sub-02", labels=("sub-01", "sub-02")),
        also=lambda case, done: named(case, done, r"sub-a\nb is passed over"),
    ),
    Row(
        "labels that differ in their case",
        lambda case: (rename_participant("sub-A")(case), shutil.copytree(
            case.bids / "sub-A", case.bids / "sub-a"), (case.bids / "sub-a/anat/sub-A_FLAIR.nii.gz")
            .rename(case.bids / "sub-a/anat/sub-a_FLAIR.nii.gz")),
        Right(label="sub-a"),
        also=lambda case, done: named(case, done, "sub-A"),
    ),
    Row("a label of 100 characters", rename_participant("sub-" + "9" * 100),
        Right(label="sub-" + "9" * 100)),
    Row(
        "an unknown participant",
        lambda case: None,
        Refused(2, ("Unknown participant: 77", "has 01")),
        options=lambda case: ("--participant-label", "77"),
    ),
    Row(
        "an unknown session",
        lambda case: None,
        Refused(2, ("Unknown session: 9", "no session")),
        options=lambda case: ("--session-label", "9"),
    ),
]  # fmt: skip


@parametrize(ROWS)
def test_odd_name(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
