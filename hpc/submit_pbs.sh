#!/usr/bin/env bash
# Submit a dataset to PBS Professional or OpenPBS; else as submit_slurm.sh.
# Usage: submit_pbs.sh BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
# qsub reads its own options, such as -q and -A, from QSUB_OPTIONS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/plan.sh"
# Submit a command as a script, since an array takes no arguments. Usage: submit QSUB_OPTION… -- COMMAND…
submit() {
    local told=()
    while [ "$1" != -- ]; do told+=("$1"); shift; done
    shift
    printf '%q ' "$@" | qsub ${QSUB_OPTIONS:-} -V -S /bin/bash -j oe -o "$out/logs/" "${told[@]}"
}
submit_tasks() {
    # An array needs two tasks at least, so a single one is told which it is. Older versions know no
    # limit of those that run at the same time.
    local tasks=(-J "1-$count${AT_ONCE:+%$AT_ONCE}")
    [ "$count" -gt 1 ] || tasks=(-v PBS_ARRAY_INDEX=1)
    submit -N cascade_bids "${tasks[@]}" -l "select=1:ncpus=${CORES:-2}:mem=${MEMORY_GB:-6}gb" \
        -l "walltime=$((60 * ${MINUTES:-45}))" -- "$@"
}
submit_group() {
    local after=(${1:+-W "depend=afterok:$1"})
    shift
    submit -N cascade_bids_group ${after[@]+"${after[@]}"} -l select=1:ncpus=1:mem=2gb \
        -l walltime=900 -- "$@"
}
submit_both qdel "$@"
