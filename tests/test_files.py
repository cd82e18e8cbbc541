"""A file appears whole, or stays as it was."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_bids import files
from cascade_bids.errors import CascadeBidsError
from cascade_bids.files import alone, appearing, clear_broken, replace_together, why_unfetched


def test_the_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.nii.gz"
    for content in ("first", "second"):
        with appearing(target) as part:
            assert part.name.endswith(".nii.gz")
            part.write_text(content)
            assert not target.exists() or target.read_text() == "first"
        assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("disk full"), CascadeBidsError), (ValueError("x"), ValueError)]
)
def test_a_failure_leaves_the_earlier_file(
    tmp_path: Path, error: Exception, raised: type[Exception]
) -> None:
    target = tmp_path / "x.json"
    target.write_text("first")
    with pytest.raises(raised) as caught, appearing(target) as part:
        part.write_text("sec")
        raise error
    assert str(error) in str(caught.value)
    assert (str(target) in str(caught.value)) == isinstance(error, OSError)
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (
        pytest.raises(CascadeBidsError, match=r"out/sub-1/x\.json can't be written"),
        appearing(tmp_path / "out" / "sub-1" / "x.json"),
    ):
        raise AssertionError("never reached")


def test_two_writers_do_not_share_a_path(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with appearing(target) as one, appearing(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"


def test_one_process_at_a_time(tmp_path):
    lock = tmp_path / "new" / "training.lock"
    with alone(lock) as own, alone(lock, wait=False) as other:
        assert own
        assert not other
    with alone(lock, wait=False) as own:
        assert own


def test_files_are_replaced_together_once_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, old = tmp_path / "source", tmp_path / "out" / "old.json"
    source.write_bytes(b"image")
    targets = [tmp_path / "out" / "new" / "a.nii.gz", tmp_path / "out" / "b.json"]
    old.parent.mkdir()
    old.write_text("old")
    targets[1].write_text("earlier")
    copy = shutil.copyfile

    def fill_the_disk(_: Path, part: Path) -> None:
        part.write_bytes(b"im")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfile", fill_the_disk)
    contents = {targets[1]: "{}", targets[0]: source}
    with pytest.raises(CascadeBidsError, match=r"a\.nii\.gz can't be written .No space left"):
        replace_together(contents, [old])
    assert [old.read_text(), targets[1].read_text()] == ["old", "earlier"]
    assert sorted(path.name for path in old.parent.rglob("*")) == ["b.json", "new", "old.json"]

    monkeypatch.setattr(files.shutil, "copyfile", copy)
    replace_together(contents, [old, old.with_name("none")])
    assert [targets[0].read_bytes(), targets[1].read_text()] == [b"image", "{}"]
    assert sorted(path.name for path in old.parent.rglob("*")) == ["a.nii.gz", "b.json", "new"]


def test_what_a_killed_process_left_is_cleared_and_what_others_write_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cascade_bids.files import appearing\n"
        "with appearing(Path(sys.argv[1]) / 'x.json') as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    (tmp_path / ".bidsignore").touch()
    (broken,) = tmp_path.glob(".*x.json")
    with appearing(tmp_path / "y.json") as part:
        clear_broken(tmp_path)
        assert part.exists()
    assert not broken.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bidsignore", "y.json"]
    clear_broken(tmp_path / "none")


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path / "one.lock") as own:
        assert own
    with appearing(tmp_path / "x") as part:
        part.write_text("x")
        clear_broken(tmp_path)
    assert (tmp_path / "x").read_text() == "x"


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with (
        pytest.raises(CascadeBidsError, match=r"logs/x\.lock can't be written"),
        alone(tmp_path / "logs" / "x.lock"),
    ):
        raise AssertionError("never reached")


def test_a_link_to_nothing_or_to_a_pointer_is_to_be_fetched(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    assert why_unfetched(target) is None
    assert "link to a file that does not exist; fetch it" in str(why_unfetched(link))
    target.write_bytes(b"/annex/objects/MD5E-s1--a.nii.gz\n")
    assert "pointer" in str(why_unfetched(link)) and "git lfs pull" in str(why_unfetched(target))
    target.write_bytes(b"an image\n/annex/objects/")
    assert why_unfetched(link) is None
