"""Paths and sidecars of derivatives, and how they are written."""

import glob
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bids.layout.writing import build_path
from bids.utils import natural_sort

from cascade_bids.bids.dataset import bids_uri, parse_entities, read_description, read_json
from cascade_bids.bids.index import why_misplaced
from cascade_bids.bids.scan import Scan
from cascade_bids.config import InputConfig
from cascade_bids.errors import UsageError
from cascade_bids.files import appearing, write_text

CODE_URL = "https://github.com/cascade-bids/cascade_bids"
BIDS_VERSION = "1.10.0"


def output_path(root: Path, scan: Scan, name: str, **entities: str) -> Path:
    """Build the path of an output of a scan.

    Parameters
    ----------
    root
        Root of the derivatives.
    scan
        The scan; its participant, session and run are part of the path.
    name
        An output of ``data/io_spec.json``: ``lesion_mask``, ``lesion_probseg``, ``lesion_dseg``,
        ``lesion_table``, ``brain_mask``, ``preproc``, ``xfm``, ``stats``, ``figure``, ``report``,
        or one of `cascade_bids.bids.change_outputs`.
    **entities
        Further BIDS entities: ``contrast`` for ``preproc``, ``from_`` and ``to`` for ``xfm``,
        ``desc`` for ``figure``, and ``space`` unless it is FLAIR.

    Returns
    -------
    Path
        The path; its folder need not exist.

    Raises
    ------
    ValueError
        If there is no such output, or the entities do not fit it.

    Examples
    --------
    >>> output_path(Path("out"), Scan("01", "2", None), "preproc", contrast="T1w").as_posix()
    'out/sub-01/ses-2/anat/sub-01_ses-2_space-FLAIR_desc-preproc_T1w.nii.gz'
    """
    spec = _output_spec(name)
    source = {k: v for k, v in scan.entities.items() if k in spec.get("source", scan.entities)}
    renamed = {"contrast": "suffix", "from_": "from"}
    given = {renamed.get(entity, entity): value for entity, value in entities.items()}
    path = build_path({**source, **spec["entities"], **given}, _spec()["patterns"], strict=True)
    if path is None:
        raise ValueError(f"No pattern of io_spec.json fits {name} with {entities}.")
    if scan.stem is not None:
        return root / Path(path).name.replace(f"sub-{scan.subject}", scan.stem, 1)
    return root / path


def sidecar(
    name: str,
    scan: Scan,
    inputs: InputConfig,
    *,
    space: str = "FLAIR",
    contrast: str | None = None,
) -> dict[str, Any]:
    """Build the JSON sidecar of an image or table.

    The label map of the lesions and the lesion table share one sidecar, as they share one name.

    Parameters
    ----------
    name
        An output, as in `output_path`.
    scan
        The scan that the output belongs to.
    inputs
        The raw dataset and the other derivatives.
    space
        Space of the image: a contrast of the scan, or the template.
    contrast
        Contrast from which a ``preproc`` image was computed; otherwise all images are sources.

    Returns
    -------
    dict
        Description, SpatialReference, Sources and further entries of the output.
    """
    raw = image_uris(scan, inputs)
    sources = [raw[contrast]] if contrast else list(raw.values())
    if scan.brain_mask is not None:
        sources.append(_derivative_uri(scan.brain_mask, inputs.derivatives))
    reference = raw[space] if space in raw else _spec()["spatial_references"][space]
    return {"SpatialReference": reference, "Sources": sources, **fixed_sidecar(name)}


def fixed_sidecar(name: str) -> dict[str, Any]:
    """Return the entries of the sidecar of an output, as in `output_path`, that never differ."""
    spec = _output_spec(name)["sidecar"]
    fixed: dict[str, Any] = _spec()["sidecars"][spec] if isinstance(spec, str) else spec
    return fixed


def image_uris(scan: Scan, inputs: InputConfig) -> dict[str, str]:
    """Return the BIDS URI of each image of a scan, or its file name outside BIDS.

    Parameters
    ----------
    scan
        The scan.
    inputs
        The raw dataset.

    Returns
    -------
    dict
        Contrast to URI or file name.
    """
    if scan.stem is not None:
        return {contrast: path.name for contrast, path in scan.images.items()}
    return {c: bids_uri("raw", inputs.bids_dir, path) for c, path in scan.images.items()}


def write_dataset_description(
    root: Path, *, bids_dir: Path, derivatives: Mapping[str, Path], version: str
) -> None:
    """Write dataset_description.json and .bidsignore at the root of the derivatives.

    Links of earlier runs are kept, since the BIDS URIs of their sidecars use them.

    Parameters
    ----------
    root
        Root of the derivatives; created when missing.
    bids_dir
        Root of the raw dataset, ``raw`` in BIDS URIs.
    derivatives
        Name to root of the other derivatives used.
    version
        Version of cascade_bids.

    Raises
    ------
    UsageError
        If the folder holds another dataset.
    """
    earlier = read_ours(root)
    links = {**earlier.get("DatasetLinks", {}), "raw": _link(root, bids_dir)}
    links |= {name: _link(root, path) for name, path in derivatives.items()}
    sources = {name: {"URL": link} for name, link in links.items()}
    raw = read_description(bids_dir)
    if raw.get("DatasetDOI"):
        sources["raw"] = {"DOI": raw["DatasetDOI"]}
    description = {
        "Name": "cascade_bids: multiple-sclerosis lesions",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "cascade_bids", "Version": version, "CodeURL": CODE_URL}],
        "SourceDatasets": list(sources.values()),
        "DatasetLinks": links,
    }
    write_json(root / "dataset_description.json", description)
    with appearing(root / ".bidsignore") as part:
        part.write_bytes((files("cascade_bids") / "data" / "bidsignore").read_bytes())


def with_sidecar(
    work_file: Path, target: Path, metadata: Mapping[str, Any]
) -> dict[Path, Path | str]:
    """Return what belongs at the paths of an output and of its sidecar.

    Parameters
    ----------
    work_file
        The finished file.
    target
        The final path, from `output_path`.
    metadata
        Content of the JSON sidecar, from `sidecar`.

    Returns
    -------
    dict
        Target to the file or its text, as in `cascade_bids.files.replace_together`; the sidecar
        first, so that no image is ever without it.
    """
    return {sidecar_path(target): json_text(metadata), target: work_file}


def sidecar_path(target: Path) -> Path:
    """Return the path of the sidecar of an output."""
    return target.with_name(target.name.split(".")[0] + ".json")


def json_text(content: Mapping[str, Any]) -> str:
    """Return the text of a JSON file, with keys in the given order.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON cannot hold.
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, completely or not at all, with keys in the given order.

    Parameters
    ----------
    target
        The file; its folder is created when missing.
    content
        The object to write.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON cannot hold.
    """
    write_text(target, json_text(content))


def find_stats(root: Path, subject: str | None = None) -> list[tuple[dict[str, str], Path]]:
    """Find the lesion statistics of all scans in a derivatives tree.

    Parameters
    ----------
    root
        Root of the derivatives.
    subject
        Label of the participant, without ``sub-``; None for all.

    Returns
    -------
    list of (dict, Path)
        For each scan its ``subject`` and, if it has them, ``session`` and ``run``, and its
        ``_desc-lesions_stats.json``; in natural order. Those of `find_misplaced_stats` are
        left out.
    """
    found = [path for path in _all_stats(root, subject) if not _why_misplaced(root, path)]
    return [(_scan_entities(path.relative_to(root)), path) for path in found]


def find_misplaced_stats(root: Path) -> dict[Path, str]:
    """Find lesion statistics that are of no scan, by their folders and names.

    Parameters
    ----------
    root
        Root of the derivatives.

    Returns
    -------
    dict
        Statistics in folders whose label BIDS does not know, and those with a name of another
        participant or session than the folder, to the reason; in natural order.
    """
    reasons = {path: _why_misplaced(root, path) for path in _all_stats(root)}
    return {path: reason for path, reason in reasons.items() if reason is not None}


def _why_misplaced(root: Path, path: Path) -> str | None:
    folders = [part[4:] for part in path.relative_to(root).parts[:-2]]
    return why_misplaced(folders[0], (*folders, None)[1], path.name)


def _all_stats(root: Path, subject: str | None = None) -> list[Path]:
    label = "*" if subject is None else glob.escape(subject)
    # Only the folders that can hold statistics are searched.
    anyone = (Scan(label, None, None), Scan(label, "*", None))
    patterns = [output_path(Path(), scan, "stats").as_posix() for scan in anyone]
    found: list[Path] = natural_sort(path for pattern in patterns for path in root.glob(pattern))
    return found


def _scan_entities(relative: Path) -> dict[str, str]:
    entities = parse_entities(relative)
    return {k: entities[k] for k in ("subject", "session", "run") if k in entities}


@cache
def _spec() -> dict[str, Any]:
    """Load the names and sidecars of the outputs."""
    text = (files("cascade_bids") / "data" / "io_spec.json").read_text(encoding="utf-8")
    spec: dict[str, Any] = json.loads(text)
    return spec


def _output_spec(name: str) -> dict[str, Any]:
    outputs = _spec()["outputs"]
    if name not in outputs:
        raise ValueError(f"There is no output {name}; io_spec.json has {', '.join(outputs)}.")
    spec: dict[str, Any] = outputs[name]
    return spec


def _derivative_uri(path: Path, derivatives: Mapping[str, Path]) -> str:
    """Build the BIDS URI of a file from one of the other derivatives."""
    for name, root in derivatives.items():
        if path.absolute().is_relative_to(root.absolute()):
            return bids_uri(name, root, path)
    raise ValueError(f"{path} is in none of the derivatives {', '.join(derivatives)}.")


def _link(root: Path, dataset: Path) -> str:
    """Build a link to a dataset: relative if one folder holds the other, so that both can move."""
    here, there = root.resolve(), dataset.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        return Path(os.path.relpath(there, here)).as_posix()
    return there.as_uri()


def read_ours(root: Path) -> dict[str, Any]:
    """Read the dataset description of earlier derivatives of this program.

    Parameters
    ----------
    root
        Root of the derivatives.

    Returns
    -------
    dict
        The description; empty if there is none.

    Raises
    ------
    UsageError
        If the folder holds another dataset.
    """
    path = root / "dataset_description.json"
    # Checked once, since another task may write the file at any time.
    exists = path.exists()
    earlier = read_json(path, "dataset description") if exists else {}
    if exists and not is_ours(earlier):
        raise UsageError(
            f"{root} holds another dataset, not derivatives of cascade_bids. "
            "Give another output folder."
        )
    return earlier


def is_ours(description: Mapping[str, Any]) -> bool:
    """Return whether a dataset_description.json describes derivatives of this program."""
    generators = description.get("GeneratedBy", [])
    named = any(generator.get("Name") == "cascade_bids" for generator in generators)
    return named and description.get("DatasetType") == "derivative"
