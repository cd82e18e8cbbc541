"""Label maps as they are read."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.errors import ScanError, UsageError
from cascade_bids.training.data import label_maps
from cascade_bids.training.data.label_maps import load_label_maps, merge_labels
from cascade_bids.training.data.tissues import FREESURFER, TISSUES

from ..tiny_anatomy import SHAPE, make_anatomy

LABEL = {"air": 0, "ventricle": 4, "white": 2, "cortex": 42, "fluid": 24, "bone": 515}
SOFT = 511


@pytest.fixture
def label_map(tmp_path):
    """The small head as a label map, and a cerebellum at its lower end."""
    tissues = make_anatomy().tissues.numpy()
    labels = np.full(SHAPE, SOFT, np.int16)
    for name, label in LABEL.items():
        labels[tissues == TISSUES.index(name)] = label
    labels[:, :, :9][np.isin(labels[:, :, :9], (2, 42))] = 8
    affine = nib.affines.from_matvec(np.eye(3), -(np.array(SHAPE) - 1) / 2)
    image = nib.Nifti1Image(labels, affine)
    nib.save(image, tmp_path / "head01_dseg.nii.gz")
    return tmp_path


@pytest.fixture
def aligned(monkeypatch):
    """No registration, and a network grid around the small head."""
    grid = (44, 48, 40), nib.affines.from_matvec(np.eye(3), [-21.5, -23.5, -19.5])
    calls = []

    def align(*_, **__):
        calls.append(1)
        return np.diag([1.1, 1.1, 1.1, 1.0])

    monkeypatch.setattr(label_maps, "align_to_template", align)
    monkeypatch.setattr(label_maps, "rigid_part", lambda _: np.eye(4))
    monkeypatch.setattr(label_maps, "network_grid", lambda: grid)
    monkeypatch.setattr(label_maps, "FAR_MM", 3.0)
    return calls


def test_labels_become_tissues_and_unknown_ones_are_vessel_or_soft():
    labels = np.array([0, 2, 77, 24, 515, 511, 999, 60, 21])
    found = [TISSUES[number] for number in merge_labels(labels, FREESURFER)]
    expected = ["air", "white", "white", "fluid", "bone"]
    assert found == [*expected, "soft tissue", "soft tissue", "brainstem", "vessel"]


def test_heads_lie_on_the_grid_and_are_aligned_once(label_map, aligned, tmp_path):
    (anatomy,) = load_label_maps(label_map, tmp_path / "cache")
    (again,) = load_label_maps(label_map, tmp_path / "cache")
    assert len(aligned) == 1
    assert anatomy.name == again.name == "head01"
    inside = anatomy.depth_mm.float() > 0
    assert inside.sum() == pytest.approx(int((make_anatomy().depth_mm > 0).sum()), rel=0.15)
    # The affine alignment scales by 1.1: the brain's middle lies in the template's.
    middle = inside.nonzero().float().mean(0)
    coordinates = anatomy.to_template[:3, :3] @ middle + anatomy.to_template[:3, 3]
    assert coordinates[:2].abs().max() < 1
    assert np.linalg.det(anatomy.to_template[:3, :3]) == pytest.approx(1.1**-3, rel=1e-3)


@pytest.mark.parametrize(
    ("label", "why"), [(0, "the labels show no brain"), (-1, "there is a label -1")]
)
def test_a_map_without_a_brain_or_with_senseless_labels_is_named(
    label_map, aligned, tmp_path, label, why
):
    path = label_map / "head01_dseg.nii.gz"
    image = nib.load(path)
    labels = np.full(SHAPE, label, np.int16)
    nib.save(nib.Nifti1Image(labels, image.affine), path)
    with pytest.raises(ScanError, match=f"head01: {why}"):
        load_label_maps(label_map, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_without_label_maps_is_named(tmp_path):
    with pytest.raises(UsageError, match="no head"):
        load_label_maps(tmp_path, tmp_path / "cache")
