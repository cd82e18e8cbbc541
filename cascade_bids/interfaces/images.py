"""What interfaces that take or give an image share."""

from pathlib import Path

import nibabel as nib
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec


class ImageInput(BaseInterfaceInputSpec):
    """One image."""

    in_file = File(exists=True, mandatory=True)


class ImageOutput(TraitedSpec):
    """One image."""

    out_file = File(exists=True)


def save_image(image: nib.Nifti1Image, folder: str, name: str) -> str:
    """Save an image into the folder of a step, and return its path."""
    path = Path(folder) / name
    image.to_filename(path)
    return str(path)
