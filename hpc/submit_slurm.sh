#!/usr/bin/env bash
# Submit a dataset to SLURM: a task for each participant who is not complete, then the group level.
# Usage: submit_slurm.sh BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
# sbatch reads partition, account and the like from SBATCH_PARTITION, SBATCH_ACCOUNT, …
# Prints the ids of both jobs. The group job is cancelled if a participant fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/plan.sh"
# With the name of the cluster behind a semicolon, where there are several.
submit() { sbatch --parsable "$@" | cut -d ';' -f 1; }
submit_tasks() {
    submit --job-name=cascade_bids --array="1-$count%${AT_ONCE:-50}" \
        --cpus-per-task="${CORES:-2}" --mem="${MEMORY_GB:-6}G" --time="${MINUTES:-45}" \
        --output="$out/logs/task-%A_%a.txt" "$@"
}
submit_group() {
    local after=(${1:+"--dependency=afterok:$1" --kill-on-invalid-dep=yes})
    shift
    submit --job-name=cascade_bids_group ${after[@]+"${after[@]}"} --cpus-per-task=1 \
        --mem=2G --time=15 --output="$out/logs/group-%j.txt" "$@"
}
submit_both scancel "$@"
