"""Nipype interface for the figures."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class _MosaicInput(BaseInterfaceInputSpec):
    flair = File(exists=True, mandatory=True)
    lesions = File(exists=True)
    brain = File(exists=True)
    orientation_known = traits.Bool(mandatory=True, desc="without it, no side is named")


class _MosaicOutput(TraitedSpec):
    out_file = File(exists=True)


class Mosaic(SimpleInterface):
    """Draw slices of the FLAIR with outlines, see `report.panels.lesion_mosaic`."""

    input_spec = _MosaicInput
    output_spec = _MosaicOutput

    def _run_interface(self, runtime: Any) -> Any:
        from cascade_bids.report.panels import lesion_mosaic

        path = Path(runtime.cwd) / "mosaic.svg"
        lesion_mosaic(
            Path(self.inputs.flair),
            path,
            lesions=Path(self.inputs.lesions) if self.inputs.lesions else None,
            brain_mask=Path(self.inputs.brain) if self.inputs.brain else None,
            orientation_known=self.inputs.orientation_known,
        )
        self._results["out_file"] = str(path)
        return runtime
