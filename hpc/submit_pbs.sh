#!/usr/bin/env bash
# Submit a dataset to PBS Professional or OpenPBS; else as submit_slurm.sh.
# Usage: submit_pbs.sh BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
# qsub reads its own options, such as -q and -A, from QSUB_OPTIONS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/plan.sh"
array= after=
if [ "$count" -gt 0 ]; then
    # An array needs two tasks at least, so a single one is told which it is.
    if [ "$count" -gt 1 ]; then tasks=(-J "1-$count%${AT_ONCE:-50}"); else tasks=(-v PBS_ARRAY_INDEX=1); fi
    array=$(qsub ${QSUB_OPTIONS:-} -V -N cascade_bids "${tasks[@]}" -j oe -o "$out/logs/" \
        -l "select=1:ncpus=${CORES:-2}:mem=${MEMORY_GB:-6}gb" -l "walltime=00:${MINUTES:-45}:00" \
        -- "$here/participant.sh" "$list" "$bids" "$out" "$work" "$@")
    after="-W depend=afterok:$array"
fi
group=$(qsub ${QSUB_OPTIONS:-} -V -N cascade_bids_group $after -j oe \
    -o "$out/logs/" -l select=1:ncpus=1:mem=2gb -l walltime=00:15:00 \
    -- "$here/group.sh" "$bids" "$out") || { [ -z "$array" ] || qdel "$array"; exit 1; }
echo $array "$group"
