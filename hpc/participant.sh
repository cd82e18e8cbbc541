#!/usr/bin/env bash
# One task of an array job: the participant who stands on the task's line of a list.
# Usage: participant.sh LIST BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
set -euo pipefail
# PBS and SGE start elsewhere than where the job was submitted, SLURM there.
cd "${PBS_O_WORKDIR:-${SGE_O_WORKDIR:-$PWD}}"
list=$1 bids=$2 out=$3 work=$4
shift 4
task=${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-${SGE_TASK_ID:?must be run as a task of an array}}}
label=$(sed -n "${task}p" "$list")
[ -n "$label" ] || { echo "$list has no line $task" >&2; exit 2; }
cores=${SLURM_CPUS_PER_TASK:-${NCPUS:-${NSLOTS:-1}}}
scratch=
# The dataset may have been submitted twice. The lock goes with the task and its program, however
# they end; where the file system has no locks (another code than 75) there is none.
lock=$out/logs/lock-$label
exec 9> "$lock"
busy=
flock --nonblock --conflict-exit-code 75 9 || [ $? -ne 75 ] || busy=yes
# Whoever held it may have removed it in between.
[ ! -e /dev/fd/9 ] || [ "$lock" -ef /dev/fd/9 ] || busy=yes
[ -z "$busy" ] || {
    echo "another task is at work on participant $label; submit again when it has ended" >&2
    exit 1
}
trap 'rm -rf "$lock" "$scratch"' EXIT
# A task that is told to end tells the program, and ends after it: bash alone would go at once.
program=
trap 'if [ -n "$program" ]; then kill -TERM "$program" || true; else exit 143; fi' TERM INT
run() {
    local code=0
    ${CASCADE_BIDS:-cascade-bids} "$@" &
    program=$!
    wait "$program" || code=$?
    while kill -0 "$program" 2> /dev/null; do
        code=0
        wait "$program" || code=$?
    done
    program=
    return "$code"
}
# A folder of its own on the node's disk, which goes when the task ends, unless one was asked for.
if [ "$work" = scratch ]; then
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/cascade_bids-XXXXXX")
    work=$scratch
    # Containers see it only if they are told.
    binds=${APPTAINER_BIND:-${SINGULARITY_BIND:-}}
    export APPTAINER_BIND="${binds:+$binds,}$work" SINGULARITY_BIND="${binds:+$binds,}$work"
fi
options=(--participant-label "$label")
# A plugin's file says how many cores the jobs have that it submits.
case " $* " in *" --use-plugin"*) ;; *) options+=(--nprocs "$cores") ;; esac
options+=(--work-dir "$work" "$@")
# CASCADE_BIDS may be several words, such as: apptainer run … cascade_bids.sif
missing=$(${CASCADE_BIDS:-cascade-bids} plan "$bids" "$out" "${options[@]}")
[ -n "$missing" ] || { echo "participant $label is complete by now"; exit 0; }
run "$bids" "$out" participant "${options[@]}"
