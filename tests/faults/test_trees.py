"""Odd datasets: their description, tables, folders, and markup where text belongs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ..tiny_heads import Run, call, image_path, stats
from .heads import Case
from .rows import Named, Refused, Right, Row, check_tiny, parametrize

MARKUP = "<script>alert(1)</script>"


def same(case: Case) -> None:
    """Leave the dataset as it is."""


def write(name: str, content: str | bytes) -> Callable[[Case], object]:
    def spoil(case: Case) -> None:
        path = case.bids / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def describe(**changes: object) -> Callable[[Case], object]:
    """Change entries of the description; one that is None is left out."""

    def spoil(case: Case) -> None:
        path = case.bids / "dataset_description.json"
        entries = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))

    return spoil


def remove(name: str) -> Callable[[Case], object]:
    return lambda case: (case.bids / name).unlink()


def add_derivatives(case: Case) -> None:
    """Put results of another program inside the dataset."""
    folder = case.bids / "derivatives" / "fmriprep"
    shutil.copytree(case.bids / "sub-01", folder / "sub-01")
    shutil.copytree(case.bids / "sub-01", folder / "sub-99")
    about = {"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (folder / "dataset_description.json").write_text(json.dumps(about))


def add_empty_participant(case: Case) -> None:
    (case.bids / "sub-03").mkdir()


def file_instead_of_folder(case: Case) -> None:
    (case.bids / "sub-03").write_text("")


def loop(case: Case) -> None:
    """Link the dataset into itself."""
    (case.anat / "again").symlink_to(case.bids)


def nest(case: Case) -> None:
    """Put the dataset one folder deeper than the one that is given."""
    inner = case.folder / "inner"
    case.bids.rename(inner)
    case.bids.mkdir()
    inner.rename(case.bids / "dataset")


def empty(case: Case) -> None:
    shutil.rmtree(case.bids)
    case.bids.mkdir()


def into(output: Callable[[Case], Path]) -> Callable[[Case, tuple[object, ...]], Run]:
    """Write to another output folder."""

    def run(case: Case, options: tuple[object, ...]) -> Run:
        out = output(case)
        return call(case.out, case.bids, out, "participant", "--nprocs", 1, *options)

    return run


def other_results(case: Case) -> None:
    """Put the results of another program where the output goes."""
    case.out.mkdir()
    about = {"Name": "fMRIPrep", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (case.out / "dataset_description.json").write_text(json.dumps(about))


def broken_results(case: Case) -> None:
    case.out.mkdir()
    (case.out / "dataset_description.json").write_text('{"Name": ')


def is_text(case: Case, done: Run) -> None:
    """No page holds the markup of the input as markup."""
    for page in case.out.glob("*.html"):
        assert MARKUP not in page.read_text()
        assert "<i>x" not in page.read_text()


def mark_up(case: Case) -> None:
    """Write markup wherever the input holds text."""
    describe(Name=MARKUP, Authors=[MARKUP], DatasetDOI=MARKUP)(case)
    write("participants.tsv", f"participant_id\tage\nsub-01\t{MARKUP}\n")(case)
    write("sub-01/anat/sub-01_FLAIR.json", json.dumps({"Manufacturer": MARKUP}))(case)
    write("README", MARKUP)(case)


def mark_up_name(case: Case) -> None:
    """Write markup into a name that the report shows."""
    path = case.anat / "sub-01_acq-<i>x<i>_T1w.nii.gz"
    shutil.copyfile(case.flair, path)


def filter_file(content: str | bytes) -> Callable[[Case], tuple[object, ...]]:
    def options(case: Case) -> tuple[object, ...]:
        path = case.folder / "filters.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return "--bids-filter-file", path

    return options


def keep_results(case: Case) -> None:
    """Put complete results where the output goes."""
    stats_path = image_path(case.out, "sub-01", "x").with_name("sub-01_desc-lesions_stats.json")
    stats_path.parent.mkdir(parents=True)
    stats_path.write_text('{"load_ml": 1.0}')


def results_stay(case: Case, done: Run) -> None:
    assert stats(case.out, "sub-01") == {"load_ml": 1.0}


def plan(case: Case, options: tuple[object, ...]) -> Run:
    return call(case.out, "plan", case.bids, *options)


PARTICIPANTS = {
    "missing column": "subject\nsub-01\n",
    "without the participant": "participant_id\nsub-77\n",
    "twice": "participant_id\nsub-01\nsub-01\n",
    "empty": "",
    "with commas": "participant_id,age\nsub-01,3\n",
    "no text": b"\xff\xfe\x00\x01\x80",
    "of another width": "participant_id\tage\nsub-01\n\t\t\t\n",
}

BROKEN_DESCRIPTIONS = {
    "cut off": '{"Name": "x", ',
    "a list": "[]",
    "empty": "",
    "no text": b"\xff\xfe\x80",
    "null": "null",
}

NESTED = '{"flair": ' + "[" * 100_000

FILTERS: list[tuple[str, str | bytes, object]] = [
    ("not JSON", "{flair}", Refused(2, ("filters.json", "valid JSON"))),
    ("a list", "[]", Refused(2, ("filters.json", "object"))),
    ("unknown entity", '{"flair": {"acq": "x"}}', Refused(2, ("acq", "Allowed are"))),
    ("a value that is an object", '{"flair": {"run": {}}}', Refused(2, ("filters.json",))),
    ("with queries of BABS", '{"flair": {"session": null}, "bold": {}, "fmap": {}, "sbref": {}}',
     Right()),
    ("byte order mark", b"\xef\xbb\xbf" + b'{"flair": {"run": null}}', Right()),
    ("nested beyond reason", NESTED, Refused(2, ("filters.json", "nest"))),
    ("that matches nothing", '{"flair": {"run": 7}}', Refused(70, ("filter file",))),
]  # fmt: skip

ROWS = [
    Row("description missing", remove("dataset_description.json"),
        Refused(2, ("no dataset_description.json", "write that file"))),
    *(
        Row(f"description {name}", write("dataset_description.json", content),
            Refused(2, ("dataset_description.json", "JSON")))
        for name, content in BROKEN_DESCRIPTIONS.items()
    ),
    Row("description with a byte order mark",
        write("dataset_description.json", b"\xef\xbb\xbf" + b'{"Name":"x","BIDSVersion":"1.10.0"}'),
        Refused(2, ("JSON|json",))),
    Row("description without BIDSVersion", describe(BIDSVersion=None),
        Refused(2, ("not a valid BIDS dataset", "BIDSVersion"))),
    Row("description of numbers", describe(Name=3, BIDSVersion=1.1, DatasetDOI=[1]), Right()),
    Row("description of a derivative", describe(DatasetType="derivative"), Right()),
    Row("description of an unknown type", describe(DatasetType="odd"), Right()),
    *(
        Row(f"participants.tsv {name}", write("participants.tsv", content), Right())
        for name, content in PARTICIPANTS.items()
    ),
    Row("sidecar that is no JSON", write("sub-01/anat/sub-01_FLAIR.json", "{"), Right()),
    Row("sidecar that is no text", write("sub-01/anat/sub-01_FLAIR.json", b"\xff\x80"), Right()),
    Row("derivatives inside", add_derivatives, Right()),
    Row("a copy in sourcedata", lambda case: shutil.copytree(
        case.bids / "sub-01", case.bids / "sourcedata" / "sub-09"), Right()),
    Row("a participant without files", add_empty_participant,
        Named(("No image is found", "FLAIR"), label="sub-03")),
    Row("a file with the name of a participant", file_instead_of_folder, Right()),
    Row("links in circles", loop, Right()),
    Row("the folder above the dataset", nest, Refused(2, ("dataset_description", "root"))),
    Row("an empty folder", empty, Refused(2, ("is empty",))),
    Row("no folder", lambda case: shutil.rmtree(case.bids), Refused(2, ("is not a folder",))),
    Row("no participant", lambda case: shutil.rmtree(case.bids / "sub-01"),
        Refused(2, ("no participant", "bids_dir"))),
    Row("output inside the input", same, Refused(2, ("inside the input", "outside")),
        run=into(lambda case: case.bids / "derivatives" / "x")),
    Row("output is the input", same, Refused(2, ("inside the input", "outside")),
        run=into(lambda case: case.bids)),
    Row("input inside the output", same, Refused(2, ("another dataset", "output folder")),
        run=into(lambda case: (describe()(case), shutil.copy(
            case.bids / "dataset_description.json", case.folder), case.folder)[-1])),
    Row("output is a file", lambda case: case.out.write_text(""), Refused(2, ("no folder",))),
    Row("output below a file", same, Refused(2, ("no folder",)),
        run=into(lambda case: case.flair / "out")),
    Row("output holds results of another program", other_results,
        Refused(2, ("another dataset", "another output"))),
    Row("output with a broken description", broken_results,
        Refused(2, ("dataset_description.json", "valid JSON"))),
    Row("work folder inside the input", same, Refused(2, ("work", "inside the input")),
        options=lambda case: ("-w", case.bids / "work")),
    Row("work folder is the output", same, Right(), options=lambda case: ("-w", case.out / "work")),
    Row("a work folder with spaces and markup", same, Right(),
        options=lambda case: ("-w", case.folder / "a b <i>x<i> é")),
    Row("markup in texts", mark_up, Right(), also=is_text),
    Row("markup in a name", mark_up_name, Right(), also=is_text,
        options=lambda case: ("--skip-bids-validation",)),
    *(
        Row(f"filter file {name}", same, ends, options=filter_file(content))
        for name, content, ends in FILTERS
    ),
    Row("filter file missing", same, Refused(2, ("nowhere.json",)),
        options=lambda case: ("--bids-filter-file", case.folder / "nowhere.json")),
    Row("filter file that matches nothing, and earlier results", keep_results,
        Refused(70, ("filter file",)), options=filter_file('{"flair": {"run": 7}}'),
        also=results_stay),
    Row("plan without any FLAIR", lambda case: case.flair.unlink(),
        Refused(70, ("FLAIR",)), contrasts=("FLAIR", "T1w"), run=plan),
    Row("derivatives that are missing", same, Refused(2, ("derivatives folder", "missing")),
        options=lambda case: ("--derivatives", f"fmriprep={case.folder / 'nowhere'}")),
    Row("derivatives without a brain mask", add_derivatives, Right(),
        options=lambda case: ("--derivatives", f"fmriprep={case.bids / 'derivatives/fmriprep'}")),
    Row("weights that are missing", same, Refused(2, ("nowhere",)),
        options=lambda case: ("--method", "nowhere.json")),
]  # fmt: skip


@parametrize(ROWS)
def test_odd_tree(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
