"""Nipype interface for the measures of quality."""

import json
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

from cascade_bids.transforms import read_transform


class _QualityInput(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="on the network grid")
    contrasts = traits.List(traits.Str(), mandatory=True, desc="contrasts of in_files")
    brain = File(exists=True, mandatory=True, desc="brain mask on the network grid")
    rigid = File(exists=True, mandatory=True, desc="network grid to FLAIR")
    affine = File(exists=True, mandatory=True, desc="template to FLAIR")
    flair = File(exists=True, mandatory=True, desc="bias-corrected, on its own grid")
    flair_brain = File(exists=True, mandatory=True, desc="brain mask on that grid")
    summary = File(exists=True, mandatory=True, desc="of the lesions, with their load")
    expected_error_ml = traits.Float(mandatory=True, desc="of the lesion probabilities")
    orientation_known = traits.Bool(mandatory=True, desc="without it, no side is named")


class _QualityOutput(TraitedSpec):
    measures = traits.Dict(desc="name to value, or None")


class MeasureQuality(SimpleInterface):
    """Measure the quality of a scan, see `quality.measures.measure_quality`."""

    input_spec = _QualityInput
    output_spec = _QualityOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.quality.measures import PreparedScan, measure_quality

        images = zip(self.inputs.contrasts, self.inputs.in_files, strict=True)
        scan = PreparedScan(
            images={contrast: nib.Nifti1Image.from_filename(path) for contrast, path in images},
            rigid=read_transform(Path(self.inputs.rigid)),
            affine=read_transform(Path(self.inputs.affine)),
            orientation_known=self.inputs.orientation_known,
            load_ml=json.loads(Path(self.inputs.summary).read_text())["load_ml"],
            expected_error_ml=self.inputs.expected_error_ml,
            **{
                name: nib.Nifti1Image.from_filename(getattr(self.inputs, name))
                for name in ("brain", "flair", "flair_brain")
            },
        )
        self._results["measures"] = measure_quality(scan)
        return runtime
