# Read by the submit scripts, whose arguments it checks; lists who has to be processed.
# Afterwards there are: here, bids, out, work, list, count; the options of each task are left in "$@".
usage="Usage: $0 BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]"
[ $# -ge 3 ] || { echo "$usage" >&2; exit 2; }
for word in "$1" "$2" "$3"; do
    case $word in -*) echo "$usage; options come last" >&2; exit 2 ;; esac
done
# Names as they were given: containers see links under these, not what they lead to.
bids=$(realpath -es "$1") || exit 2
out=$(realpath -ms "$2")
work=$3
shift 3
for word in "$@"; do
    case $word in
        --participant?label*) echo "$0: say who in PARTICIPANTS=\"01 02\", not by $word" >&2; exit 2 ;;
        -w* | --w*) echo "$0: the work folder is the third argument, not $word" >&2; exit 2 ;;
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
# Submit the tasks and the group job behind them, and print their ids.
# Usage: submit_both CANCEL OPTION…, with functions submit_tasks COMMAND… and
# submit_group ID COMMAND…, which print the id; CANCEL is the command that takes a job back.
submit_both() {
    local cancel=$1 tasks= group
    shift
    if [ "$count" -gt 0 ]; then
        tasks=$(submit_tasks "$here/participant.sh" "$list" "$bids" "$out" "$work" "$@")
    fi
    # Tasks without their group job would be processed again by the next submission.
    group=$(submit_group "$tasks" "$here/group.sh" "$bids" "$out" "$work" "$@") \
        || { [ -z "$tasks" ] || "$cancel" "$tasks"; exit 1; }
    echo $tasks "$group"
}
