# Read by the submit scripts, whose arguments it checks; lists who has to be processed.
# Afterwards there are: here, bids, out, work, list, count, and the array task_options.
[ $# -ge 3 ] || { echo "Usage: $0 BIDS_DIR OUTPUT_DIR {WORK_DIR|scratch} [options of cascade-bids]" >&2; exit 2; }
bids=$(realpath "$1") out=$(realpath -m "$2") work=$3
[ "$work" = scratch ] || work=$(realpath -m "$work")
shift 3
# Who is processed is up to the list; which images are taken matters to the list and to every task.
plan_options=() task_options=() for_plan=no for_task=yes
for word in "$@"; do
    case $word in
        --participant?label*) for_plan=yes for_task=no ;;
        --session?label* | --bids-filter-file* | --skip-bids-validation) for_plan=yes for_task=yes ;;
        -*) for_plan=no for_task=yes ;;
    esac
    [ $for_plan = no ] || plan_options+=("$word")
    [ $for_task = no ] || task_options+=("$word")
done
mkdir -p "$out/logs"
list=$out/logs/participants-$(date +%Y%m%dT%H%M%S)-$$.txt
# Written by the shell: the program, if it is in a container, may not see this folder.
${CASCADE_BIDS:-cascade-bids} plan "$bids" "$out" ${plan_options[@]+"${plan_options[@]}"} > "$list" \
    || { rm "$list"; exit 1; }
count=$(wc -l < "$list")
if [ "$count" = 0 ]; then
    rm "$list"
    echo "all participants are complete; what is left is the group level"
    exit 0
fi
