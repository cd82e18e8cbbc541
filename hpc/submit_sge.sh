#!/usr/bin/env bash
# Submit a dataset to SGE and its descendants; else as submit_slurm.sh.
# Usage: submit_sge.sh BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
# qsub reads its own options, such as -q and -P, from QSUB_OPTIONS; the parallel environment of one
# node is called smp unless PARALLEL_ENVIRONMENT says otherwise.
# SGE can wait for a job, but not for its success: the group job fails and names who is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/plan.sh"
cores=${CORES:-2}
# Of an array the id has its tasks behind a dot.
submit() {
    qsub ${QSUB_OPTIONS:-} -terse -V -S /bin/bash -j y -o "$out/logs/" "$@" | cut -d . -f 1
}
submit_tasks() {
    # h_vmem limits addresses, of which programs take more than memory.
    submit -N cascade_bids -t "1-$count" -tc "${AT_ONCE:-50}" \
        -pe "${PARALLEL_ENVIRONMENT:-smp}" "$cores" -l "h_vmem=$((2 * 1024 * ${MEMORY_GB:-6} / cores))M" \
        -l "h_rt=$((60 * ${MINUTES:-45}))" "$@"
}
submit_group() {
    local after=(${1:+-hold_jid "$1"})
    shift
    submit -N cascade_bids_group ${after[@]+"${after[@]}"} -l h_vmem=4G -l h_rt=900 "$@"
}
submit_both qdel "$@"
