"""A dataset that each test names the images of."""

import json
from pathlib import Path
from typing import Any

import pytest

from .small_dataset import MakeDataset, path_of, write_image


@pytest.fixture
def dataset(tmp_path: Path) -> MakeDataset:
    """Make a dataset of named images, in a folder whose own name looks like entities."""

    def make(*names: str, **description: Any) -> Path:
        root = tmp_path / "sub-x" / "ses-9_run-7" / "raw"
        root.mkdir(parents=True, exist_ok=True)
        content = {"Name": "test", "BIDSVersion": "1.10.0", **description}
        (root / "dataset_description.json").write_text(json.dumps(content))
        for name in names:
            write_image(path_of(root, f"{name}.nii.gz"))
        return root

    return make
