"""Nipype interface that stores the arrays of a case for training."""

from pathlib import Path
from typing import Any

import nibabel as nib
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class _SaveCaseInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    order = traits.List(traits.Str(), mandatory=True, desc="contrasts in the order of the channels")
    brain = File(exists=True, mandatory=True)
    lesions = File(exists=True, desc="lesion mask of a labelled scan")
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

        lesions, anatomy = self.inputs.lesions, self.inputs.anatomy
        files = dict(zip(self.inputs.contrasts, self.inputs.in_files, strict=True))
        save_case(
            Path(self.inputs.folder),
            [nib.Nifti1Image.from_filename(files[contrast]) for contrast in self.inputs.order],
            nib.Nifti1Image.from_filename(self.inputs.brain),
            nib.Nifti1Image.from_filename(lesions) if lesions else None,
            anatomy=nib.Nifti1Image.from_filename(anatomy) if anatomy else None,
        )
        self._results["folder"] = self.inputs.folder
        return runtime
