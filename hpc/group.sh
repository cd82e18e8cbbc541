#!/usr/bin/env bash
# The group level as a job. It fails if someone is not complete, of whom the tables lack a part.
# Usage: group.sh BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]
set -euo pipefail
cd "${PBS_O_WORKDIR:-${SGE_O_WORKDIR:-$PWD}}"
bids=$1 out=$2 work=$3
shift 3
[ "$work" = scratch ] || set -- --work-dir "$work" "$@"
who=(${PARTICIPANTS:+--participant-label $PARTICIPANTS})
missing=$(${CASCADE_BIDS:-cascade-bids} plan "$bids" "$out" "$@" ${who[@]+"${who[@]}"})
# Said first, since without anyone there is no group level.
[ -z "$missing" ] || echo "not complete:" $missing >&2
${CASCADE_BIDS:-cascade-bids} "$bids" "$out" group
[ -z "$missing" ]
