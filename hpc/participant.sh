#!/usr/bin/env bash
# One task of an array job: the participant who stands on the task's line of a list.
# Usage: participant.sh LIST BIDS_DIR OUTPUT_DIR WORK_DIR [options of cascade-bids]
set -euo pipefail
# PBS and SGE start elsewhere than where the job was submitted, SLURM there.
cd "${PBS_O_WORKDIR:-${SGE_O_WORKDIR:-$PWD}}"
list=$1 bids=$2 out=$3 work=$4
shift 4
task=${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-${SGE_TASK_ID:?must be run as a task of an array}}}
label=$(sed -n "${task}p" "$list")
[ -n "$label" ] || { echo "$list has no line $task" >&2; exit 2; }
cores=${SLURM_CPUS_PER_TASK:-${NCPUS:-${NSLOTS:-1}}}
# A folder of its own on the node's disk, which goes when the task ends, unless one was asked for.
if [ "$work" = scratch ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/cascade_bids-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # Containers see it only if they are told.
    binds=${APPTAINER_BIND:-${SINGULARITY_BIND:-}}
    export APPTAINER_BIND="${binds:+$binds,}$work" SINGULARITY_BIND="${binds:+$binds,}$work"
fi
# CASCADE_BIDS may be several words, such as: apptainer run … cascade_bids.sif
${CASCADE_BIDS:-cascade-bids} "$bids" "$out" participant --participant-label "$label" \
    --nprocs "$cores" --work-dir "$work" "$@"
