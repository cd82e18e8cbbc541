"""What no program reads together, but must agree: versions, and the commands of CI."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from cascade_bids.config import VERSION

ROOT = Path(__file__).resolve().parents[1]


def call(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci" / script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_version_is_the_same_everywhere():
    assert (ROOT / "version").read_text().strip() == VERSION
    done = call("check-version")
    assert done.returncode == 0, done.stderr
    done = call("check-version", f"v{VERSION}")
    heading = next(
        line for line in (ROOT / "CHANGES.md").read_text().splitlines() if f"[{VERSION}]" in line
    )
    assert done.returncode == ("unreleased" in heading), done.stderr
    done = call("check-version", "v99.0.0")
    assert done.returncode == 1
    assert f"the tag v99.0.0 is not v{VERSION}" in done.stderr


def test_release_notes_are_those_of_the_version():
    notes = call("release-notes").stdout
    assert "### Added" in notes
    assert "## [" not in notes.replace("### ", "")


def test_large_files_are_refused(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"0" * 1000)
    large.write_bytes(b"0" * 2_000_000)
    assert call("refuse-large", str(small)).returncode == 0
    done = call("refuse-large", str(small), str(large))
    assert done.returncode == 1
    assert f"{large} is larger" in done.stderr


def commands() -> list[str]:
    config = yaml.safe_load((ROOT / ".circleci" / "config.yml").read_text())
    steps = [step for job in config["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if isinstance(step, dict) and "run" in step]
    return [run if isinstance(run, str) else run["command"] for run in runs]


@pytest.mark.parametrize("command", commands())
def test_ci_runs_what_there_is(command):
    words = re.sub(r'^sudo -E env "PATH=\$PATH" MUST_RUN=yes ', "", command).split()
    if words[0] == "make":
        targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in " ".join(targets).split()
    else:
        assert (ROOT / words[0]).stat().st_mode & 0o100


def test_every_job_of_ci_is_in_its_workflow():
    config = yaml.safe_load((ROOT / ".circleci" / "config.yml").read_text())
    jobs = config["workflows"]["every-change"]["jobs"]
    named = {next(iter(job)) for job in jobs}
    assert named == set(config["jobs"])
    published = next(job["publish"] for job in jobs if "publish" in job)
    assert set(published["requires"]) == named - {"publish"}
    assert published["filters"]["branches"] == {"ignore": "/.*/"}
    for job in config["jobs"].values():
        assert "docker" in job or job["executor"] in config["executors"]
