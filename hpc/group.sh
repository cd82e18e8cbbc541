#!/usr/bin/env bash
# The group level as a job. Usage: group.sh BIDS_DIR OUTPUT_DIR
set -euo pipefail
cd "${PBS_O_WORKDIR:-${SGE_O_WORKDIR:-$PWD}}"
${CASCADE_BIDS:-cascade-bids} "$1" "$2" group
