#!/usr/bin/env bash
# The group level as a job. Usage: group.sh BIDS_DIR OUTPUT_DIR
set -euo pipefail
${CASCADE_BIDS:-cascade-bids} "$1" "$2" group
