"""Linear transforms as matrices and as ITK text files.

A transform is a (4, 4) float64 matrix that maps world coordinates (RAS+, mm) of the fixed image to
those of the moving one. This is the direction in which images are resampled and which ITK stores;
ITK uses LPS+ coordinates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cascade_bids.errors import ScanError

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def from_itk(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Build a transform from the parameters of ITK's MatrixOffsetTransformBase.

    Parameters
    ----------
    parameters
        (12,) matrix by rows, then translation in mm; LPS.
    centre
        (3,) fixed parameters, centre of rotation in mm; LPS.

    Returns
    -------
    numpy.ndarray
        (4, 4) fixed to moving, RAS+ mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(parameters[:9], (3, 3))
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return _LPS @ matrix @ _LPS


def mean_rigid(transforms: Sequence[np.ndarray], point: np.ndarray) -> np.ndarray:
    """Compute the mean of rigid transforms.

    Parameters
    ----------
    transforms
        (4, 4) each, between the same two worlds.
    point
        (3,) mm; where the transforms take it, on average, the mean takes it.

    Returns
    -------
    numpy.ndarray
        (4, 4), rigid, with the mean of the rotations.
    """
    rotation = Rotation.from_matrix([one[:3, :3] for one in transforms]).mean().as_matrix()
    target = np.mean([apply_affine(one, point) for one in transforms], axis=0)
    return from_matvec(rotation, target - rotation @ point)


def write_transform(transform: np.ndarray, path: Path) -> None:
    """Write a transform as an ITK text file, which ANTs, ITK-SNAP and 3D Slicer read.

    Parameters
    ----------
    transform
        (4, 4) fixed to moving, RAS+ mm.
    path
        The file, ``.txt``.
    """
    itk = _LPS @ transform @ _LPS
    numbers = " ".join(repr(float(n)) for n in [*itk[:3, :3].ravel(), *itk[:3, 3]])
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def read_transform(path: Path) -> np.ndarray:
    """Read a linear ITK text file.

    Parameters
    ----------
    path
        File with one affine or matrix-offset transform.

    Returns
    -------
    numpy.ndarray
        (4, 4) fixed to moving, RAS+ mm.

    Raises
    ------
    ScanError
        When the file holds no such transform, or several.
    """
    try:
        lines = path.read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        if sum(line.startswith("Parameters:") for line in lines) > 1:
            raise ValueError("it holds several transforms")
        parameters = np.array(fields["Parameters"].split(), dtype=float)
        centre = np.array(fields["FixedParameters"].split(), dtype=float)
        if parameters.shape != (12,) or centre.shape != (3,):
            raise ValueError("12 parameters and a centre of 3 are needed")
    except (OSError, KeyError, ValueError) as error:
        raise ScanError(f"{path} holds no linear ITK transform ({error})") from error
    return from_itk(parameters, centre)
