"""What the tests of several rooms share: images stored in other ways, and the public data."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

# ITK reads this when ants is imported, which no line above does: one thread, so that
# registrations repeat, and so that tests that run side by side leave each other their cores.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
# What the command line sets for Nipype: its quiet settings, and no question to the network.
os.environ.setdefault("NO_ET", "1")
os.environ.setdefault(
    "NIPYPE_CONFIG_DIR", str(Path(__file__).parents[1] / "cascade_bids" / "data" / "nipype")
)
torch.set_num_threads(1)

Reorient = Callable[[nib.Nifti1Image], nib.Nifti1Image]

OBLIQUE = np.eye(4)
"""12° about an axis that is none of the three: what a tilted head holder does."""
OBLIQUE[:3, :3] = Rotation.from_rotvec(np.deg2rad(12) * np.array([1, 2, 2]) / 3).as_matrix()


@pytest.fixture(autouse=True, scope="session")
def steps_run_here() -> Iterator[None]:
    """Run steps in the process of the test, where stand-ins are, unless it asks for several."""
    from .tiny_heads import steps_here

    with steps_here():
        yield


@pytest.fixture(params=["RAS", "LAS", "LPS", "oblique"])
def orientation(request: pytest.FixtureRequest) -> str:
    """How an image is stored."""
    return request.param


@pytest.fixture
def turned(orientation: str) -> np.ndarray:
    """(4, 4) world to world: what `reorient` does to the place of the anatomy."""
    return OBLIQUE if orientation == "oblique" else np.eye(4)


@pytest.fixture
def reorient(orientation: str, turned: np.ndarray) -> Reorient:
    """Store images in another way.

    ``RAS``, ``LAS`` and ``LPS`` permute and flip the voxel axes: each voxel keeps its value and its
    place in the world. ``oblique`` keeps the voxels as they are and turns the affine by `OBLIQUE`
    about the origin: the same anatomy at other world coordinates, ``turned @ before``.
    """

    def reoriented(img: nib.Nifti1Image) -> nib.Nifti1Image:
        if orientation == "oblique":
            changed = nib.Nifti1Image(np.asanyarray(img.dataobj), turned @ img.affine, img.header)
        else:
            changed = img.as_reoriented(
                nib.orientations.ornt_transform(
                    nib.orientations.io_orientation(img.affine),
                    nib.orientations.axcodes2ornt(orientation),
                )
            )
        changed.set_sform(changed.affine, code=1)
        changed.set_qform(changed.affine, code=1)
        return changed

    return reoriented


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public imaging data, beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public imaging data is not in {folder}")
    return folder


@pytest.fixture
def quick() -> Iterator[Counter[str]]:
    """Stand-ins for networks and registration in this process, and how often each was called."""
    from .tiny_heads import stand_ins

    with stand_ins() as calls:
        yield calls
