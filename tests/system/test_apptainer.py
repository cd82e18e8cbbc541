"""Make the image for Apptainer from the one for Docker, and run it as clusters do.

    make test-apptainer

Prints one line of figures.
"""

import shutil
from pathlib import Path

from .apptainer import find_apptainer
from .image import built_image
from .machine import PROGRAM, ROOT, Clock, MemoryMeter, call, make_phantom, mask_hashes, snapshot


def test_the_image_does_what_the_bare_install_does(tmp_path: Path, capsys) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    apptainer = find_apptainer(tmp_path, shared)
    archive = shared / "cascade_bids.tar"
    with built_image(tmp_path) as image:
        call("podman", "save", "--quiet", "--format", "docker-archive", "-o", archive, image.name)
    shutil.copy(ROOT / "Singularity.def", shared)
    clock = Clock()
    # Root can't run %test while building where it lacks capabilities, as in containers.
    apptainer("build", "--notest", "cascade_bids.sif", "Singularity.def")
    seconds = clock.seconds
    assert "WRONG" not in apptainer("test", "--userns", "cascade_bids.sif")
    megabytes = (shared / "cascade_bids.sif").stat().st_size / 1e6
    assert "For research only" in apptainer("run-help", "cascade_bids.sif")

    bids, out = make_phantom(shared / "bids"), shared / "out"
    one = ("participant", "--participant-label", "01", "--omp-nthreads", "2")
    work = shared / "work"
    work.mkdir()
    out.mkdir()
    before = snapshot(bids)
    binds = ("-B", f"{bids}:/data:ro", "-B", f"{out}:/out", "-B", f"{work}:/work")
    inside = ("--userns", "--containall", "--cleanenv", *binds, "cascade_bids.sif")
    clock = Clock()
    with MemoryMeter() as memory:
        apptainer("run", *inside, "/data", "/out", *one, "--work-dir", "/work")
    run_seconds = clock.seconds
    apptainer("run", *inside, "/data", "/out", "group")
    assert (out / "lesions.tsv").exists()
    assert snapshot(bids) == before

    bare = tmp_path / "bare"
    call(PROGRAM, bids, bare, *one)
    assert mask_hashes(out) == mask_hashes(bare)
    with capsys.disabled():
        print(
            f"\nApptainer: built in {seconds} s, {megabytes:.0f} MB; a phantom scan in "
            f"{run_seconds} s and at most {memory.gigabytes:.1f} GB, masks equal to those of the "
            "bare install"
        )
