#!/bin/sh
# Joins the pieces of all datasets: configurations of the importers and the scaler, and the lists of their stacks.
#
#   infra/aws/assemble.sh OUT [DATASETS]
#
# OUT/importer.toml          importer.toml beside this script, the queues, then each datasets/NAME/dataset.toml, in order of NAME
# OUT/pools.toml             the [[pool]] of each step that has a queue of its own
# OUT/stacks, queues, pools  a line a stack: its name, its template, and its parameters as Key=Value; the sources', and those
#                            of steps that have a queue of their own
# DATASETS                   another directory of datasets
#
# NAME       begins the names of stacks, as in their parameter; penstock when unset
# QUEUE_URL  of the first queue, asked for where a step has a queue of its own: the others are beside it
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: assemble.sh OUT [DATASETS]}
datasets=${2:-$here/datasets}
prefix=${NAME:-penstock}

fail() {
    echo "$1" >&2
    exit 1
}

# Reads a file of Key=Value into $template, looked for in $directory and then beside this script, and $parameters.
read_stack() {
    template=$2
    parameters=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '' | '#'*) ;;
        *[[:space:]]*) fail "$1: no blanks: $line" ;;
        Template=*) template=${line#Template=} ;;
        [A-Z]*=*) parameters="$parameters $line" ;;
        *) fail "$1: not Key=Value: $line" ;;
        esac
    done <"$1"
    [ -n "$template" ] || fail "$1: Template= is missing"
    if [ -f "$directory/$template" ]; then
        template=$directory/$template
    elif [ -f "$here/$template" ]; then
        template=$here/$template
    else
        fail "$1: there is no $template"
    fi
}

# Adds the queue of a step, with its alarms and its pool.
add_queue() {
    [ -n "${QUEUE_URL:-}" ] || fail "$directory has a queue of its own: set QUEUE_URL to the URL of the first queue, which it is beside"
    for needed in pool.conf pool.toml; do
        [ -f "$directory/$needed" ] || fail "$directory has queue.conf and no $needed"
    done
    grep -qE "^queue *= *\"$name\"" "$piece" || fail "$piece: queue = \"$name\" is missing"
    # What stacks may be called.
    step=$prefix-$(echo "$name" | tr _ -)
    url=${QUEUE_URL%/*}/$step-imports
    [ -s "$work/queue" ] || printf '\n[[queue]]\nname = "default"\nurl = "%s"\n' "$QUEUE_URL" >>"$work/queue"
    printf '\n[[queue]]\nname = "%s"\nurl = "%s"\n' "$name" "$url" >>"$work/queue"

    read_stack "$directory/queue.conf" queue.yaml
    echo "$step-queue $template Name=$step$parameters" >>"$work/queues"
    read_stack "$directory/pool.conf" ''
    echo "$step-importers $template Name=$step Queue=$name$parameters" >>"$work/pools"
    {
        printf '\n[[pool]]\nname = "%s"\nqueue_urls = ["%s"]\n' "$name" "$url"
        cat "$directory/pool.toml"
        case $template in
        "$here/importers-ecs.yaml")
            printf '\n[pool.workers]\nkind = "ecs"\ncluster = "%s"\nservice = "%s"\n' "$step-importers" "$step-importers"
            ;;
        "$here/importers-asg.yaml") printf '\n[pool.workers]\nkind = "asg"\ngroup = "%s"\n' "$step-importers" ;;
        esac
    } >>"$work/pools.toml"
}

# Nothing is replaced before all fits.
work=$out/.new
mkdir -p "$work"
trap 'rm -r "$work"' EXIT
for file in queue datasets pools.toml stacks queues pools; do
    : >"$work/$file"
done

for directory in "$datasets"/*/; do
    directory=${directory%/}
    name=${directory##*/}
    piece=$directory/dataset.toml
    [ -f "$piece" ] || fail "$directory has no dataset.toml"
    # One directory, one dataset of the same name: whoever looks for it finds it.
    [ "$(grep -c '^\[\[dataset\]\]' "$piece")" = 1 ] || fail "$piece: one [[dataset]], no more and no less"
    grep -qE "^name *= *\"$name\"" "$piece" || fail "$piece: name = \"$name\" is missing"
    {
        echo
        cat "$piece"
    } >>"$work/datasets"
    [ ! -f "$directory/queue.conf" ] || add_queue

    # A dataset may share the source of another, come after another, or be filled by pointers alone.
    [ -f "$directory/source.conf" ] || continue
    read_stack "$directory/source.conf" ''
    echo "$prefix-source-$name $template Name=$prefix Dataset=$name$parameters" >>"$work/stacks"
done

cat "$here/importer.toml" "$work/queue" "$work/datasets" >"$work/importer.toml"
for file in importer.toml pools.toml stacks queues pools; do
    mv "$work/$file" "$out/$file"
done
echo "$out/importer.toml: $(grep -c '^\[\[dataset\]\]' "$out/importer.toml") datasets"
echo "$out/stacks: $(wc -l <"$out/stacks" | tr -d ' ') stacks"
echo "$out/queues, pools, pools.toml: $(wc -l <"$out/pools" | tr -d ' ') steps with a queue of their own"
