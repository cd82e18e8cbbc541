"""Nipype interface that stores the arrays of a case for training."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from cascade_bids.errors import ScanError
from cascade_bids.transforms import read_transform


class _SaveCaseInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    order = traits.List(traits.Str(), mandatory=True, desc="contrasts in the order of the channels")
    brain = File(exists=True, mandatory=True)
    lesions = File(exists=True, desc="lesion mask of a labelled scan, in FLAIR space")
    flair = File(exists=True, mandatory=True, desc="the raw FLAIR")
    rigid = File(exists=True, mandatory=True, desc="network grid to FLAIR")
    anatomy = File(exists=True, desc="maps along a fourth axis")
    folder = traits.Str(mandatory=True)


class _SaveCaseOutput(TraitedSpec):
    folder = traits.Str()


class SaveCase(SimpleInterface):
    """Store the arrays of a case, see `models.cases.save_case`."""

    input_spec = _SaveCaseInput
    output_spec = _SaveCaseOutput
    # Nipype does not check whether the arrays still exist.
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.models.cases import save_case
        from cascade_bids.preprocess.load import load_mask, read_grid
        from cascade_bids.preprocess.resample import resample_mask, resample_share

        anatomy, share, reference = self.inputs.anatomy, None, None
        brain = nib.Nifti1Image.from_filename(self.inputs.brain)
        to_flair = read_transform(Path(self.inputs.rigid))
        if self.inputs.lesions:
            path = Path(self.inputs.lesions)
            mask = load_mask(path)
            try:
                share = resample_share(mask, brain.shape, brain.affine, to_flair)
            except ValueError as error:
                raise ScanError(f"the mask {path} {error}") from error
            reference = resample_mask(mask, *read_grid(Path(self.inputs.flair)), np.eye(4))
        files = dict(zip(self.inputs.contrasts, self.inputs.in_files, strict=True))
        save_case(
            Path(self.inputs.folder),
            [nib.Nifti1Image.from_filename(files[contrast]) for contrast in self.inputs.order],
            brain,
            share,
            anatomy=nib.Nifti1Image.from_filename(anatomy) if anatomy else None,
            reference=reference,
            to_flair=to_flair,
        )
        self._results["folder"] = self.inputs.folder
        return runtime
