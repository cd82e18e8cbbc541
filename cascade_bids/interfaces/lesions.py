"""Nipype interfaces for labelling and measuring lesions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from cascade_bids.transforms import read_transform

if TYPE_CHECKING:
    from cascade_bids.lesions.label import OperatingPoint


class _OperatingPointInput(BaseInterfaceInputSpec):
    threshold = traits.Float(mandatory=True)
    min_lesion_mm3 = traits.Float(mandatory=True)
    min_peak = traits.Float(mandatory=True, desc="smallest peak")


class _LabelInput(_OperatingPointInput):
    in_file = File(exists=True, mandatory=True, desc="probability map")
    spheres = File(exists=True, desc="sphere map; splits confluent lesions if given")


class _LabelOutput(TraitedSpec):
    mask = File(exists=True)
    labels = File(exists=True)


class LabelLesions(SimpleInterface):
    """Label lesions, and separate confluent ones if there is a sphere map.

    See `lesions.label.label_lesions` and `lesions.separate.separate_lesions`.
    """

    input_spec = _LabelInput
    output_spec = _LabelOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.lesions.label import label_lesions
        from cascade_bids.lesions.measure import voxel_volume_mm3
        from cascade_bids.lesions.separate import separate_lesions

        image = nib.Nifti1Image.from_filename(self.inputs.in_file)
        labels = label_lesions(
            np.asarray(image.dataobj),
            _operating_point(self.inputs),
            voxel_mm3=voxel_volume_mm3(image.affine),
        )
        if self.inputs.spheres:
            labels = separate_lesions(
                labels,
                _read(self.inputs.spheres),
                affine=image.affine,
                min_lesion_mm3=self.inputs.min_lesion_mm3,
            )
        for name, data in {"mask": (labels > 0).astype(np.uint8), "labels": labels}.items():
            header = image.header.copy()
            header.set_data_dtype(data.dtype)
            path = Path(runtime.cwd) / f"{name}.nii.gz"
            nib.Nifti1Image(data, image.affine, header).to_filename(path)
            self._results[name] = str(path)
        return runtime


class _MeasureInput(_OperatingPointInput):
    labels = File(exists=True, mandatory=True)
    probability = File(exists=True, mandatory=True)
    brain = File(exists=True, mandatory=True)
    template_to_flair = File(exists=True, mandatory=True, desc="affine, ITK")
    orientation_known = traits.Bool(mandatory=True, desc="without it, no lesion has a location")
    load_factor = traits.Float(desc="factor of the interval of the load")
    confidence = traits.List(traits.Float(), desc="weights of the confidence of lesions")


class _MeasureOutput(TraitedSpec):
    table = File(exists=True)
    summary = File(exists=True)
    expected_error_ml = traits.Float(desc="see lesions.uncertainty.expected_error_ml")


class MeasureLesions(SimpleInterface):
    """Locate and measure lesions, and summarise them.

    See `lesions.location.locate_lesions`, `lesions.measure.lesion_table`,
    `lesions.measure.summarise` and `lesions.label.measure_dropped`.
    """

    input_spec = _MeasureInput
    output_spec = _MeasureOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.lesions.label import measure_dropped
        from cascade_bids.lesions.location import load_atlas, locate_lesions
        from cascade_bids.lesions.measure import lesion_table, summarise, voxel_volume_mm3
        from cascade_bids.lesions.uncertainty import expected_error_ml, load_interval_ml

        image, brain = (
            nib.Nifti1Image.from_filename(self.inputs.labels),
            nib.Nifti1Image.from_filename(self.inputs.brain),
        )
        labels = np.asarray(image.dataobj)
        to_template = locations = None
        if self.inputs.orientation_known:
            to_template = np.linalg.inv(read_transform(Path(self.inputs.template_to_flair)))
            locations = locate_lesions(
                labels, image.affine, atlas=load_atlas(), world_to_atlas=to_template
            )
        probability = _read(self.inputs.probability)
        table = lesion_table(
            labels,
            probability,
            image.affine,
            locations=locations,
            world_to_mni=to_template,
            confidence=self.inputs.confidence or None,
        )
        summary = summarise(
            table,
            brain_mask=np.asarray(brain.dataobj) > 0,
            affine=brain.affine,
            located=locations is not None,
        )
        voxel_mm3 = voxel_volume_mm3(image.affine)
        point = _operating_point(self.inputs)
        summary["dropped"] = measure_dropped(probability, point, voxel_mm3=voxel_mm3)
        summary["load_interval_ml"] = None
        error = expected_error_ml(probability, voxel_mm3)
        if isdefined(self.inputs.load_factor):
            ends = load_interval_ml(summary["load_ml"], error, self.inputs.load_factor)
            summary["load_interval_ml"] = [round(end, 4) for end in ends]
        path = Path(runtime.cwd)
        table.round(4).to_csv(path / "lesions.tsv", sep="\t", index=False, na_rep="n/a")
        (path / "summary.json").write_text(json.dumps(_rounded(summary), indent=2))
        self._results |= {
            "table": str(path / "lesions.tsv"),
            "summary": str(path / "summary.json"),
            "expected_error_ml": error,
        }
        return runtime


def _operating_point(inputs: _OperatingPointInput) -> "OperatingPoint":
    from cascade_bids.lesions.label import OperatingPoint

    return OperatingPoint(inputs.threshold, inputs.min_lesion_mm3, inputs.min_peak)


def _read(path: str) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def _rounded(value: Any) -> Any:
    """Round all numbers of nested mappings to four decimals, as in the table."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value
