# Read by the submit scripts, whose arguments it checks; lists who has to be processed.
# Afterwards there are: here, bids, out, work, list, count; the options of each task are left in "$@".
[ $# -ge 3 ] || { echo "Usage: $0 BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]" >&2; exit 2; }
# Names as they were given: containers see links under these, not what they lead to.
bids=$(realpath -es "$1") || exit 2
out=$(realpath -ms "$2")
work=$3
shift 3
for word in "$@"; do
    case $word in
        --participant?label*) echo "$0: say who in PARTICIPANTS=\"01 02\", not by $word" >&2; exit 2 ;;
        -h | --help | --version | --out | --out=*) echo "$0: $word is no option of a run" >&2; exit 2 ;;
    esac
done
# Several words each: whom to process, and how the program is called.
who=(${PARTICIPANTS:+--participant-label $PARTICIPANTS})
if [ "$work" != scratch ]; then
    work=$(realpath -ms "$work")
    who+=(--work-dir "$work")
fi
# Nothing is written before the program has seen that it may be.
people=$(${CASCADE_BIDS:-cascade-bids} plan "$bids" "$out" "$@" ${who[@]+"${who[@]}"})
count=$(grep -c . <<< "$people" || true)
mkdir -p "$out/logs"
list=$out/logs/participants-$(date +%Y%m%dT%H%M%S)-$$.txt
if [ "$count" -gt 0 ]; then
    echo "$people" > "$list"
else
    echo "all participants are complete; only the group level is submitted" >&2
fi
