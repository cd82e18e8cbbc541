"""The command line: exit codes, wrong use, and what the flags come to."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.app import participant
from cascade_bids.app.participant import Outcome
from cascade_bids.bids.scan import Scan
from cascade_bids.cli.main import GROUPS, _find_commands
from cascade_bids.cli.run_options import print_outcomes
from cascade_bids.cli.train.train import make_parser
from cascade_bids.config import VERSION, ParticipantConfig

from ..tiny_heads import LESION, LESION_ML, METHOD, call, contents, make_dataset, make_head, run

RUN_PY = Path(__file__).resolve().parents[2] / "run.py"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "bids", "sub-01_ses-1")


# --- Starting ---


def test_run_py_is_small_and_starts_anywhere(tmp_path: Path) -> None:
    assert len(RUN_PY.read_text().splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, str(RUN_PY), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == f"cascade_bids {VERSION}"


def test_help_does_not_wait_for_libraries() -> None:
    program = (
        "import sys\nfrom cascade_bids.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ants', 'nipype', 'bids', 'nilearn', 'plotly', 'pandas'}\n"
        "sys.exit(heavy & set(sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    for command in ("segment", "train", "phantom", "compare-loads", "evaluate"):
        assert command in done.stdout
    assert "not a medical device" in " ".join(done.stdout.split())


def test_help_fits_one_screen_and_groups_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call(tmp_path, "--help").text.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
    groups = {line.split()[0]: line.replace(",", "").split()[1:] for line in lines[-4:-1]}
    assert groups == {
        "run": ["doctor", "evaluate", "plan", "segment"],
        "train": [
            *("crossval", "finetune", "import-nicmslesions", "join"),
            *("preview-training", "train"),
        ],
        "maintain": ["build-atlas", "compare-loads", "phantom", "train-brain", "train-context"],
    }


@pytest.mark.parametrize(
    "command",
    [name for group in GROUPS.values() for name in _find_commands(group)],
)
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    done = call(tmp_path, command, "--help")
    assert done.code == 0
    assert f"usage: cascade-bids {command}" in done.text


def test_flags_come_to_the_config(
    bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ParticipantConfig] = []
    monkeypatch.setattr(participant, "run_participants", lambda config: asked.append(config) or [])
    filters = tmp_path / "filters.json"
    filters.write_text('{"flair": {"acquisition": "3d"}}')
    flags = (
        "--participant_label 01 sub-02 --session_label ses-1 --skip-bids-validation "
        f"--bids-filter-file {filters} --derivatives fmriprep={tmp_path} "
        f"--bids-database-dir {tmp_path}/db --output-spaces T1w MNI152NLin2009aSym "
        "--skull-strip skip --random-seed 5 --device cpu --nprocs 3 --omp-nthreads 2 --mem 6.5 "
        f"-w {tmp_path}/work --clean-workdir --stop-on-first-crash --separate-lesions "
        "--threshold 0.35 --min-lesion-mm3 0"
    )
    assert run(bids, tmp_path / "out", *flags.split()).code == 0
    [config] = asked
    assert config.output_dir == tmp_path / "out"
    inputs = config.inputs
    assert inputs.bids_dir == bids
    assert inputs.participant_labels == ("01", "sub-02")
    assert inputs.session_labels == ("ses-1",)
    assert inputs.filters == {"flair": {"acquisition": "3d"}}
    assert inputs.derivatives == {"fmriprep": tmp_path}
    assert inputs.database_dir == tmp_path / "db"
    assert inputs.validate is False
    assert config.preprocess.skull_strip == "skip"
    assert config.preprocess.random_seed == 5
    assert config.preprocess.output_spaces == ("T1w", "MNI152NLin2009aSym")
    assert config.method.separate_lesions
    assert (config.method.threshold, config.method.min_lesion_mm3) == (0.35, 0)
    assert config.resources.device == "cpu"
    resources = config.resources
    assert (resources.nprocs, resources.omp_nthreads, resources.mem_gb) == (3, 2, 6.5)
    assert resources.work_dir == tmp_path / "work"
    assert resources.clean_work_dir
    assert resources.stop_on_first_crash


def test_a_card_may_be_given_by_a_relative_path(
    bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps run in folders of their own."""
    asked: list[ParticipantConfig] = []
    monkeypatch.setattr(participant, "run_participants", lambda config: asked.append(config) or [])
    monkeypatch.chdir(tmp_path)
    assert run(bids, tmp_path / "out", "--method", "mylab/mine.json").code == 0
    assert asked[0].method.method == str(tmp_path / "mylab" / "mine.json")


def test_repeated_flags_add_up(bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ParticipantConfig] = []
    monkeypatch.setattr(participant, "run_participants", lambda config: asked.append(config) or [])
    flags = (
        "--participant-label 01 --participant_label 02 --session-label 1 --session-label 2 "
        f"--derivatives a={tmp_path}/a --derivatives b={tmp_path}/b "
        "--output-spaces T1w --output-spaces MNI152NLin2009aSym"
    )
    run(bids, tmp_path / "out", *flags.split())
    run(bids, tmp_path / "out")
    inputs, none = asked[0].inputs, asked[1].inputs
    assert inputs.participant_labels == ("01", "02")
    assert inputs.session_labels == ("1", "2")
    assert inputs.derivatives == {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert asked[0].preprocess.output_spaces == ("T1w", "MNI152NLin2009aSym")
    assert none.participant_labels == none.session_labels == ()
    assert none.derivatives == {}


@pytest.mark.parametrize(("counted", "nprocs"), [(6, 6), (None, 1)])
def test_all_cores_are_used_where_none_are_assigned(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, nprocs: int
) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    options = make_parser().parse_args(["bids", "--out", "out", "-w", "work"])
    assert options.nprocs == nprocs


# --- Wrong use ---


WRONG = {
    "unknown-flag": ("{bids} {out} participant --no-such-flag", "--no-such-flag"),
    "no-level": ("{bids} {out}", "level"),
    "unknown-level": ("{bids} {out} session", "'session'"),
    "no-processes": (
        "{bids} {out} participant --nprocs 0",
        "--nprocs: '0' is no whole number of at least 1",
    ),
    "no-memory": (
        "{bids} {out} participant --mem 0",
        "--mem: '0' is no number of GB above 0",
    ),
    "no-probability": (
        "{bids} {out} participant --threshold 0",
        "--threshold: '0' is no probability above 0 and up to 1",
    ),
    "no-volume": (
        "{bids} {out} participant --min-lesion-mm3 -3",
        "--min-lesion-mm3: '-3' is no volume in mm³",
    ),
    "processes-in-words": (
        "{bids} {out} participant --nprocs two",
        "--nprocs: 'two' is no whole number of at least 1",
    ),
    "negative-seed": (
        "{bids} {out} participant --random-seed -1",
        "--random-seed: '-1' is no whole number of at least 0",
    ),
    "negative-seed-of-training": ("train {bids} --out {out} -w {tmp}/w --random-seed -1", "'-1'"),
    "negative-seed-of-phantom": ("phantom {out} --random-seed -1", "'-1'"),
    "unknown-space": ("{bids} {out} participant --output-spaces Talairach", "'Talairach'"),
    "missing-input": ("{tmp}/nowhere {out} participant", "nowhere is not a folder"),
    "empty-input": ("{tmp}/empty {out} participant", "empty is empty"),
    "no-dataset": ("{tmp}/loose {out} participant", "no dataset_description.json"),
    "output-is-input": ("{bids} {bids} participant", "output_dir {bids} lies inside the input"),
    "output-in-input": ("{bids} {bids}/derivatives/x participant", "lies inside the input"),
    "output-in-input-by-link": ("{bids} {tmp}/link/x participant", "lies inside the input"),
    "work-in-input": ("{bids} {out} participant -w {bids}/work", "--work-dir {bids}/work lies"),
    "database-in-input": ("{bids} {out} participant --bids-database-dir {bids}/db", "{bids}/db"),
    "output-is-a-file": ("{bids} {tmp}/file participant", "output_dir {tmp}/file"),
    "work-is-a-file": ("{bids} {out} participant -w {tmp}/file/w", "--work-dir {tmp}/file/w"),
    "output-of-others": ("{bids} {tmp}/loose/others participant", "holds another dataset"),
    "unknown-participant": (
        "{bids} {out} participant --participant-label 01 99",
        "Unknown participant: 99. {bids} has 01",
    ),
    "unknown-session": ("{bids} {out} participant --session-label 7", "Unknown session: 7"),
    "unnamed-derivatives": ("{bids} {out} participant --derivatives {tmp}", "write NAME=PATH"),
    "missing-derivatives": ("{bids} {out} participant --derivatives x={tmp}/no", "{tmp}/no"),
    "unknown-method": ("{bids} {out} participant --method psychic", "'psychic'"),
    "missing-filter-file": ("{bids} {out} participant --bids-filter-file {tmp}/f", "{tmp}/f"),
    "no-json-as-filter": ("{bids} {out} participant --bids-filter-file {tmp}/file", "{tmp}/file"),
    "group-first": ("{bids} {out} group", "run the participant level"),
    "segment-missing-file": ("segment --flair {tmp}/F.nii.gz --out {out}", "{tmp}/F.nii.gz"),
    "segment-no-out": ("segment --flair {tmp}/file", "--out"),
    "segment-out-is-a-file": ("segment --flair {tmp}/file --out {tmp}/file", "{tmp}/file"),
    "phantom-over-something": ("phantom {bids}", "{bids} is not an empty folder"),
    "compare-without-truth": ("compare-loads {bids} {out}", "{bids} is no phantom"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_ends_with_2_and_touches_nothing(bids: Path, tmp_path: Path, case: str) -> None:
    (tmp_path / "empty").mkdir()
    others = tmp_path / "loose" / "others"
    others.mkdir(parents=True)
    (others / "dataset_description.json").write_text('{"Name": "not ours"}')
    (tmp_path / "file").write_text("not JSON")
    (tmp_path / "link").symlink_to(bids)
    before = contents(tmp_path)
    command, says = (
        text.format(bids=bids, out=tmp_path / "out", tmp=tmp_path) for text in WRONG[case]
    )
    done = call(tmp_path / "out", *command.split())
    assert done.code == 2
    assert "error: " in done.text
    assert says in done.text
    assert "Traceback" not in done.text
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_cannot_be_asked_for(bids: Path, tmp_path: Path) -> None:
    done = run(bids, tmp_path / "out", "--device", "cuda")
    assert done.code == 2
    assert "--device cpu" in done.text


# --- One patient without BIDS ---


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("F.nii.gz", "F"),
        ("my_flair.nii", "my_flair"),
        # To BIDS a name's first dot begins its extension, so sidecars would share one name.
        ("patient.FLAIR.nii.gz", "patient_FLAIR"),
    ],
)
def test_segment_names_its_outputs_as_the_flair(
    quick: Counter[str], tmp_path: Path, name: str, stem: str
) -> None:
    flair, t1w = tmp_path / name, tmp_path / "T.nii.gz"
    make_head("FLAIR", 0).to_filename(flair)
    make_head("T1w", 0).to_filename(t1w)
    out = tmp_path / "out"
    done = call(
        out, "segment", "--flair", flair, "--t1w", t1w, "--out", out, "--nprocs", 1, *METHOD
    )
    assert done.code == 0
    assert f"{stem}.html" in contents(out)
    measured = json.loads((out / f"{stem}_desc-lesions_stats.json").read_text())
    assert measured["images"] == {"FLAIR": name, "T1w": "T.nii.gz"}
    mask = nib.load(out / f"{stem}_space-FLAIR_label-lesion_mask.nii.gz")
    assert np.asarray(mask.dataobj).sum() * 0.512 == pytest.approx(LESION_ML, rel=0.1)
    sidecar = json.loads((out / f"{stem}_space-FLAIR_label-lesion_mask.json").read_text())
    assert sidecar["SpatialReference"] == name
    assert all(path.startswith(stem) for path in contents(out))


def test_segment_takes_nifti_2(quick: Counter[str], tmp_path: Path) -> None:
    for contrast in ("FLAIR", "T1w"):
        head = nib.Nifti2Image.from_image(make_head(contrast, 0))
        head.to_filename(tmp_path / f"{contrast}.nii.gz")
    out = tmp_path / "out"
    images = ("--flair", tmp_path / "FLAIR.nii.gz", "--t1w", tmp_path / "T1w.nii.gz")
    assert call(out, "segment", *images, "--out", out, "--nprocs", 1).code == 0


def test_patients_that_share_a_work_folder_do_not_share_images(
    quick: Counter[str], tmp_path: Path
) -> None:
    """Files of one name, size and time: all that differs is what is in them."""
    loads = []
    for patient, lesion in enumerate((600, 300)):  # the second is as bright as brain
        folder = tmp_path / str(patient)
        folder.mkdir()
        for contrast in ("FLAIR", "T1w"):
            head = make_head(contrast, 0)
            data = np.asarray(head.dataobj).copy()
            data[LESION] = np.minimum(data[LESION], lesion)
            path = folder / f"{contrast}.nii"
            nib.Nifti1Image(data, head.affine).to_filename(path)
            os.utime(path, (1e9, 1e9))
        images = ("--flair", folder / "FLAIR.nii", "--t1w", folder / "T1w.nii")
        out, work = folder / "out", tmp_path / "work"
        done = call(out, "segment", *images, "--out", out, "-w", work, "--nprocs", 1, *METHOD)
        assert done.code == 0
        loads.append(json.loads((out / "FLAIR_desc-lesions_stats.json").read_text())["load_ml"])
    assert loads == [pytest.approx(LESION_ML, rel=0.1), 0]


def test_segment_needs_what_the_method_needs(quick: Counter[str], tmp_path: Path) -> None:
    make_head("FLAIR", 0).to_filename(tmp_path / "F.nii.gz")
    out = tmp_path / "out"
    done = call(out, "segment", "--flair", tmp_path / "F.nii.gz", "--out", out, *METHOD)
    assert done.code == 70
    assert "F: no T1w image" in done.text
    assert quick.total() == 0


# --- The closing table ---


def test_warnings_of_a_scan_that_does_not_pass_are_printed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcome(label: str, *reasons: str) -> Outcome:
        quality = {"verdict": "fail" if reasons else "pass", "reasons": reasons}
        numbers = {"load_ml": 1.0, "count": 1, "warnings": ["The header tells no orientation."]}
        return Outcome(Scan(label, None, None), numbers | {"quality": quality})

    assert print_outcomes([outcome("1"), outcome("2", "The head is turned.")], tmp_path) == 0
    printed = capsys.readouterr().out
    assert "sub-2: The head is turned.\nsub-2: The header tells no orientation." in printed
    assert "sub-1: " not in printed
