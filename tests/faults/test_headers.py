"""Odd and damaged headers of NIfTI files."""

import gzip
import warnings
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from .heads import Case
from .rows import Named, Right, Row, Told, check_tiny, parametrize

TURNED = np.eye(4)
TURNED[:3, :3] = Rotation.from_rotvec(np.deg2rad(30) * np.array([2, 1, 2]) / 3).as_matrix()

NAN, INF = np.nan, np.inf


def broken(*words: str) -> Named:
    return Named(("sub-01_FLAIR", *words))


def edit(**fields: object) -> partial:
    return partial(Case.edit, **fields)


def store(case: Case, axes: str) -> None:
    """Permute and flip the axes of the file; each voxel stays at its place in the world."""
    image = nib.Nifti1Image.from_filename(case.flair)
    ornt = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), ornt)
    )
    turned.to_filename(case.flair)


def store_oblique(case: Case) -> None:
    data, affine = case.load()
    case.save(data, TURNED @ affine)


def keep_form(case: Case, form: str) -> None:
    """Keep one of the forms, with code 1, and none of the other."""
    image = nib.Nifti1Image.from_filename(case.flair)
    affine = image.affine
    image.set_sform(affine if form == "sform" else None, code=int(form == "sform"))
    image.set_qform(affine if form == "qform" else None, code=int(form == "qform"))
    image.to_filename(case.flair)


def part_forms(case: Case) -> None:
    """Give a qform 26 mm away from the sform, as after a registration by another program."""
    image = nib.Nifti1Image.from_filename(case.flair)
    away = nib.affines.from_matvec(np.eye(3), [10, 0, 24])
    image.set_sform(image.affine, code=2)
    image.set_qform(away @ image.affine, code=1)
    image.to_filename(case.flair)


def forms_are_kept(case: Case, done: object) -> None:
    """A mask has both forms of the raw image."""
    raw = nib.load(case.flair).header
    for path in case.out.rglob("*_space-FLAIR_*.nii.gz"):
        header = nib.load(path).header
        for form in ("sform", "qform"):
            assert header[f"{form}_code"] == raw[f"{form}_code"], path.name
            made = getattr(header, f"get_{form}")()
            np.testing.assert_allclose(made, getattr(raw, f"get_{form}")(), atol=1e-3)


def claims_no_location(case: Case, done: object) -> None:
    """Neither the statistics nor the table tell where a lesion is."""
    table = next(case.out.rglob("*_dseg.tsv")).read_text()
    assert "periventricular" not in table
    assert "juxtacortical" not in table


def store_front_to_back(case: Case) -> None:
    """Flip the rows, and tell nothing of the orientation, as old converters do."""
    data, affine = case.load()
    case.save(data[:, ::-1], affine)
    case.edit(qform_code=0, sform_code=0)


def in_unit(case: Case, unit: str, mm: float) -> None:
    data, affine = case.load()
    affine = affine.copy()
    affine[:3] /= mm
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(case.flair)


def state_unit(case: Case, unit: str) -> None:
    """State a unit that the numbers are not in."""
    image = nib.Nifti1Image.from_filename(case.flair)
    image.header.set_xyzt_units(unit)
    image.to_filename(case.flair)


def scale(case: Case, slope: float, inter: float) -> None:
    """Let the header scale what is stored, so that the values are a third, and 2 more."""
    data, affine = case.load()
    image = nib.Nifti1Image(data, affine)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(case.flair)


def store_big_endian(case: Case) -> None:
    data, affine = case.load()
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(data.dtype)
    nib.Nifti1Image(data, affine, header).to_filename(case.flair)


def store_nifti_2(case: Case) -> None:
    data, affine = case.load()
    nib.Nifti2Image(data, affine).to_filename(case.flair)


def extend(case: Case, size: int) -> None:
    """Add an extension of the header that claims a size."""
    raw = gzip.decompress(case.flair.read_bytes())
    extension = np.array([size, 6], "<i4").tobytes() + b"<b>odd</b>".ljust(24)
    offset = np.array([352 + len(extension)], "<f4").tobytes()
    header = raw[:108] + offset + raw[112:348] + b"\1\0\0\0"
    case.flair.write_bytes(gzip.compress(header + extension + raw[352:]))


ROWS = [
    *(
        Row(f"stored as {axes}", partial(store, axes=axes), Right(), full=True)
        for axes in ("LAS", "LPS", "RSP", "SAL")
    ),
    Row("stored oblique by 30°", store_oblique, Right(), world=TURNED, full=True),
    Row("sform only", partial(keep_form, form="sform"), Right(), full=True),
    Row("qform only", partial(keep_form, form="qform"), Right(), full=True),
    Row(
        "qform and sform apart",
        part_forms,
        Right(("qform",)),
        also=forms_are_kept,
        full=True,
    ),
    Row(
        "no code of a form",
        edit(qform_code=0, sform_code=0),
        Told(("does not tell the orientation",)),
        also=claims_no_location,
    ),
    Row(
        "no code of a form, rows front to back",
        store_front_to_back,
        Told(("does not tell the orientation",)),
        also=claims_no_location,
        full=True,
    ),
    Row(
        "no code of a form, pixdim 0",
        edit(qform_code=0, sform_code=0, pixdim={3: 0}),
        broken("affine", "convert"),
    ),
    Row("pixdim 0 beside an sform", edit(pixdim={3: 0}, qform_code=0), Right()),
    Row("pixdim negative beside an sform", edit(pixdim={2: -8.0}, qform_code=0), Right()),
    Row(
        "NaN in the sform",
        edit(srow_x={1: NAN}),
        broken("affine", "convert"),
    ),
    Row(
        "infinite sform",
        edit(srow_z={3: INF}),
        broken("affine", "convert"),
    ),
    Row("singular sform", edit(srow_y={0: 0, 1: 0, 2: 0}), broken("affine", "convert")),
    Row("sheared sform", edit(srow_x={1: 3.0}), broken("sheared", "resample")),
    Row(
        "quaternion that is none",
        edit(sform_code=0, quatern_b=0.9, quatern_c=0.9, quatern_d=0.9),
        broken("copy|convert"),
    ),
    Row(
        "unknown code of a form",
        edit(sform_code=77, qform_code=77),
        Told(("does not tell the orientation",)),
    ),
    Row("micrometres", partial(in_unit, unit="micron", mm=0.001), Right(), full=True),
    Row("metres", partial(in_unit, unit="meter", mm=1000), Right(), full=True),
    Row(
        "says micrometres, means mm",
        partial(state_unit, unit="micron"),
        Right(("states the unit micron",)),
    ),
    Row("unknown unit", edit(xyzt_units=5), Right()),
    Row(
        "voxels of 1 m",
        edit(sform_code=0, pixdim={1: 1e3, 2: 1e3, 3: 1e3}),
        Named(("FLAIR", "check that it is a head scan")),
    ),
    Row("slope 0", edit(scl_slope=0), Right(), full=True),
    Row("slope NaN", edit(scl_slope=NAN, scl_inter=NAN), Right(), full=True),
    Row("slope infinite", edit(scl_slope=INF), Right()),
    Row("intercept NaN", edit(scl_slope=1, scl_inter=NAN), broken("copy|convert")),
    Row("slope a third", partial(scale, slope=1 / 3, inter=2), Right()),
    Row("slope negative", edit(scl_slope=-1, scl_inter=0), broken("positive")),
    Row("big-endian", store_big_endian, Right()),
    Row("NIfTI-2", store_nifti_2, Right(), full=True),
    Row("wrong magic", edit(magic=b"xyz"), broken("copy|convert")),
    Row("magic of a pair of files", edit(magic=b"ni1"), Right()),
    Row("size of another header", edit(sizeof_hdr=1234), Right()),
    Row("unknown datatype", edit(datatype=9999), broken("9999", "copy|convert")),
    Row("datatype of 128 bits", edit(datatype=1536, bitpix=128), broken("copy|convert")),
    Row("bitpix of another datatype", edit(bitpix=64), Right()),
    Row("voxels behind the end", edit(vox_offset=1e8), broken("copy|convert")),
    Row("offset NaN", edit(vox_offset=NAN), broken("copy|convert")),
    Row("no axes", edit(dim={0: 0}), broken("copy|convert")),
    Row("eight axes", edit(dim={0: 8}), broken("copy|convert")),
    Row("axis of length 0", edit(dim={3: 0}), broken("shape|copy|convert")),
    Row("axis of length -1", edit(dim={2: -1}), broken("shape|copy|convert")),
    Row(
        "claims 512³",
        edit(dim={1: 512, 2: 512, 3: 512}),
        broken("copy|convert"),
    ),
    Row(
        "claims 30000³",
        edit(dim={1: 30000, 2: 30000, 3: 30000}),
        broken("copy|convert"),
    ),
    Row("odd extension", partial(extend, size=32), Right()),
    Row(
        "extension of size 7",
        partial(extend, size=7),
        broken("copy|convert"),
        during=lambda case: warnings.catch_warnings(action="ignore"),
    ),
    Row(
        "markup in the header",
        edit(descrip=b"<script>x</script>", intent_name=b"<b>", aux_file=b"<img src=x>"),
        Right(),
    ),
]


@parametrize(ROWS)
def test_odd_header(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
