# Read by the submit scripts: checks their arguments, and lists who has to be processed.
# Afterwards: bids, out, work, options (array), program, list, count.
[ $# -ge 3 ] || { echo "Usage: $0 BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]" >&2; exit 2; }
bids=$(realpath "$1") out=$(realpath -m "$2") work=$3
[ "$work" = scratch ] || work=$(realpath -m "$work")
shift 3
options=("$@")
program=${CASCADE_BIDS:-cascade-bids}
mkdir -p "$out/logs"
list=$out/logs/participants-$(date +%Y%m%dT%H%M%S)-$$.txt
# The list is written here and not by the program, which in a container may not see this folder.
$program plan "$bids" "$out" > "$list"
count=$(wc -l < "$list")
if [ "$count" = 0 ]; then
    rm "$list"
    echo "all participants are complete; group level: $program $bids $out group"
    exit 0
fi
