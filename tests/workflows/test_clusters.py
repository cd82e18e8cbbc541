"""What prepares and checks runs on clusters and in containers."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from nipype import Workflow

from cascade_bids.app import doctor, participant
from cascade_bids.errors import UsageError
from cascade_bids.machine import usable_memory
from cascade_bids.models import weights
from cascade_bids.models.card import ModelCard
from cascade_bids.workflows.execution import read_plugin
from cascade_bids.workflows.plugin import WorkersPlugin
from cascade_bids.workflows.resources import LIBRARIES_GB

from ..tiny_heads import METHOD, call, image_path, make_dataset, run, stand_ins, stats


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "bids"
    return make_dataset(folder, "sub-2_ses-1", "sub-2_ses-2", "sub-10", "sub-3")


@pytest.fixture
def quick() -> Iterator[Counter[str]]:
    with stand_ins() as calls:
        yield calls


def test_a_plan_lists_everyone_in_natural_order(bids: Path, tmp_path: Path) -> None:
    done = call(tmp_path, "plan", bids)
    assert (done.code, done.text) == (0, "2\n3\n10\n")
    assert call(tmp_path, "plan", bids, "--participant-label", "10").text == "10\n"
    target = tmp_path / "deep" / "participants.txt"
    done = call(tmp_path, "plan", bids, tmp_path / "nothing-yet", "--out", target)
    assert (done.text, target.read_text()) == ("", "2\n3\n10\n")


def test_a_plan_leaves_out_who_is_complete(bids: Path, tmp_path: Path, quick: Counter[str]) -> None:
    out = tmp_path / "out"
    assert run(bids, out, "--participant-label", "2", "--session-label", "1").code == 0
    assert call(out, "plan", bids, out).text == "2\n3\n10\n"  # the second session is missing
    assert run(bids, out, "--participant-label", "2").code == 0
    assert call(out, "plan", bids, out).text == "3\n10\n"
    figure = next(out.rglob("sub-2_ses-2_desc-lesions_mosaic.svg"))
    for path in (out / "sub-2.html", figure):
        kept = path.read_bytes()
        path.unlink()
        assert call(out, "plan", bids, out).text == "2\n3\n10\n"
        path.write_bytes(kept)
    assert call(out, "plan", bids, out).text == "3\n10\n"


def test_a_plan_does_not_take_an_earlier_page_for_that_of_a_run_that_was_killed(
    bids: Path, tmp_path: Path, quick: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(bids, out, "--participant-label", "3").code == 0
    page = (out / "sub-3.html").read_text()
    # As kill -9 does after the last step: nothing is written any more.
    monkeypatch.setattr(participant, "_write_reports", lambda *_: {})
    assert run(bids, out, "--participant-label", "3").code == 0
    assert stats(out, "sub-3") is not None
    assert call(out, "plan", bids, out, "--participant-label", "3").text == "3\n"
    monkeypatch.undo()
    assert run(bids, out, "--participant-label", "3").code == 0
    assert (out / "sub-3.html").read_text() == page


def test_a_plan_refuses_what_a_run_would_refuse(bids: Path, tmp_path: Path) -> None:
    assert call(tmp_path, "plan", bids, "--tta", "--nprocs", "2").code == 0
    done = call(tmp_path, "plan", bids, "--tta", "--nporcs", "2")
    assert done.code == 2
    assert "--nporcs" in done.text
    done = call(tmp_path, "plan", bids, "--method", "nobody")
    assert done.code == 2
    assert "nobody" in done.text
    done = call(tmp_path, "plan", bids, bids / "out")
    assert done.code == 2
    assert "inside the input" in done.text
    assert not (bids / "out").exists()
    done = call(tmp_path, "plan", bids, "-w", bids / "work")
    assert done.code == 2
    assert "--work-dir" in done.text
    other = tmp_path / "fmriprep"
    other.mkdir()
    (other / "dataset_description.json").write_text('{"Name": "x", "DatasetType": "derivative"}')
    done = call(tmp_path, "plan", bids, other)
    assert done.code == 2
    assert "another dataset" in done.text
    done = call(tmp_path, "plan", bids, "--use-plugin", tmp_path / "none.yml", "-w", tmp_path)
    assert done.code == 2
    assert "none.yml can't be read" in done.text


def test_a_plan_of_a_dataset_without_any_flair_cannot_start(tmp_path: Path) -> None:
    labels = [f"sub-{number}" for number in range(1, 26)]
    bids = make_dataset(tmp_path / "bids", *labels)
    for label in labels:
        image_path(bids, label, "FLAIR").rename(image_path(bids, label, "flair"))
    done = call(tmp_path, "plan", bids, "--out", tmp_path / "list.txt")
    assert done.code == 70
    assert "no scan can be processed" in done.text and "sub-1_flair.nii.gz" in done.text
    assert "sub-20: " in done.text and "sub-21: " not in done.text and "5 more" in done.text
    assert not (tmp_path / "list.txt").exists()
    # A task of an array runs for one participant, so that the report tells what is wrong.
    assert call(tmp_path, "plan", bids, "--participant-label", "3").text.endswith("3\n")
    image_path(bids, "sub-9", "flair").rename(image_path(bids, "sub-9", "FLAIR"))
    assert call(tmp_path, "plan", bids).code == 0


def test_a_plan_of_no_dataset_is_wrong_use(tmp_path: Path) -> None:
    assert call(tmp_path, "plan", tmp_path / "nowhere").code == 2


def test_the_doctor_finds_nothing(tmp_path: Path) -> None:
    done = call(tmp_path, "doctor")
    assert done.code == 0
    assert "WRONG" not in done.text
    findings = {finding.what: finding for finding in doctor.examine()}
    assert "weights of brain" in findings
    assert "torch" in findings["packages"].found


def test_the_doctor_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(card: ModelCard) -> None:
        raise OSError(f"{card.name} is torn")

    monkeypatch.setattr(weights, "check_weights", damaged)
    monkeypatch.setattr(doctor, "NEEDED_GB", 1e9)
    done = call(tmp_path, "doctor")
    assert done.code == 70
    wrong = {finding.what: finding.found for finding in doctor.examine() if not finding.is_well}
    assert wrong["weights of brain"] == "OSError: brain is torn"
    assert "where a scan needs" in wrong["memory"]


def test_the_doctor_misses_weights_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "files", lambda _: tmp_path)
    found = {finding.what for finding in doctor.examine()}
    assert {"weights of brain", "weights of ensemble"} <= found


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cascade_bids", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("cascade_bids ")


def test_steps_can_run_by_a_plugin_of_nipype(
    bids: Path, tmp_path: Path, quick: Counter[str]
) -> None:
    file = tmp_path / "plugin.yml"
    file.write_text("plugin: Linear\n")
    out = tmp_path / "out"
    options = ("--participant-label", "3", "--use-plugin", file)
    done = run(bids, out, *options)
    assert done.code == 2
    assert "--use-plugin needs a --work-dir" in done.text
    assert run(bids, out, *options, "-w", tmp_path / "work").code == 0
    assert stats(out, "sub-3") is not None


def test_a_bad_scan_fails_alone_with_a_plugin_too(tmp_path: Path, quick: Counter[str]) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-1", "sub-2")
    image_path(bids, "sub-1", "FLAIR").write_bytes(b"no image")
    file = tmp_path / "plugin.json"
    file.write_text(json.dumps({"plugin": "Linear", "plugin_args": {}}))
    done = run(bids, tmp_path / "out", "--use-plugin", file, "-w", tmp_path / "work")
    assert done.code == 1
    assert stats(tmp_path / "out", "sub-1") is None
    assert stats(tmp_path / "out", "sub-2") is not None


def test_a_plugin_may_have_no_arguments_and_other_keys(tmp_path: Path) -> None:
    file = tmp_path / "plugin.yml"
    file.write_text("plugin: SLURM\nplugin_args:\nother: 1\n")
    assert read_plugin(file) == {"plugin": "SLURM", "plugin_args": {}}


@pytest.mark.parametrize(("asked", "cores"), [((), 3), (("--nprocs", "2"), 2)])
def test_nprocs_is_stronger_than_what_a_plugin_file_says(
    bids: Path,
    tmp_path: Path,
    quick: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    cores: int,
) -> None:
    given = {}
    monkeypatch.setattr(Workflow, "run", lambda _, **arguments: given.update(arguments))
    file = tmp_path / "plugin.yml"
    file.write_text("plugin: MultiProc\nplugin_args: {n_procs: 3}\n")
    options = ("--participant-label", "3", "--use-plugin", file, "-w", tmp_path / "work")
    call(tmp_path, bids, tmp_path / "out", "participant", *METHOD, *options, *asked)
    assert isinstance(given["plugin"], WorkersPlugin)
    assert given["plugin"].processors == cores
    assert given["plugin"].memory_gb < usable_memory() / 2**30


@pytest.mark.parametrize(("asked", "gb"), [((), 3), (("--mem", "2.5"), 2.5)])
def test_mem_is_stronger_than_what_a_plugin_file_says(
    bids: Path,
    tmp_path: Path,
    quick: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    gb: float,
) -> None:
    given = {}
    monkeypatch.setattr(Workflow, "run", lambda _, **arguments: given.update(arguments))
    file = tmp_path / "plugin.yml"
    file.write_text("plugin: MultiProc\nplugin_args: {n_procs: 3, memory_gb: 3}\n")
    options = ("--participant-label", "3", "--use-plugin", file, "-w", tmp_path / "work")
    call(tmp_path, bids, tmp_path / "out", "participant", *METHOD, *options, *asked)
    # What the libraries take is no step's.
    kept = LIBRARIES_GB if asked else 0
    assert given["plugin"].memory_gb == gb - kept


@pytest.mark.parametrize(
    ("asked", "warning"),
    [("0.5", "--mem 0.5: one step alone takes up to"), ("1e6", "--mem 1e+06: there are only")],
)
def test_a_memory_that_cannot_be_kept_to_is_warned_of(
    bids: Path,
    tmp_path: Path,
    quick: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asked: str,
    warning: str,
) -> None:
    monkeypatch.setattr(Workflow, "run", lambda *_, **__: None)
    call(tmp_path, bids, tmp_path / "out", "participant", *METHOD, "--mem", asked)
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plugin: [", "can't be read"),
        ("- SLURM", "write a line `plugin: NAME`"),
        ("plugin: SLURM\nplugin_args: [1]", "write a line `plugin: NAME`"),
        ("plugin: SLURMGraph", "not SLURMGraph"),
        ("plugin: CondorDAGMan", "not CondorDAGMan"),
        ("plugin: Debug", "not Debug"),
        ("plugin: SLURM\nplugin_args:\n  n_procs: two", "n_procs must be a whole number"),
        ("plugin: Nobody", "one of Nipype's .*SLURM.*, not Nobody"),
    ],
)
def test_a_wrong_plugin_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "plugin.yml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_plugin(file)
    with pytest.raises(UsageError, match="can't be read"):
        read_plugin(tmp_path / "none.yml")
