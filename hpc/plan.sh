# Read by the submit scripts, whose arguments it checks; lists who has to be processed.
# Afterwards there are: here, bids, out, work, list, count; the options of each task are left in "$@".
[ $# -ge 3 ] || { echo "Usage: $0 BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]" >&2; exit 2; }
bids=$(realpath "$1") out=$(realpath -m "$2") work=$3
[ "$work" = scratch ] || work=$(realpath -m "$work")
shift 3
for word in "$@"; do
    case $word in
        --participant?label*) echo "$0: say who in PARTICIPANTS=\"01 02\", not by $word" >&2; exit 2 ;;
    esac
done
mkdir -p "$out/logs"
list=$out/logs/participants-$(date +%Y%m%dT%H%M%S)-$$.txt
# Written by the shell: the program, if it is in a container, may not see this folder.
${CASCADE_BIDS:-cascade-bids} plan "$bids" "$out" "$@" \
    ${PARTICIPANTS:+--participant-label $PARTICIPANTS} > "$list" \
    || { rm "$list"; exit 1; }
count=$(wc -l < "$list")
if [ "$count" = 0 ]; then
    rm "$list"
    echo "all participants are complete; what is left is the group level"
    exit 0
fi
