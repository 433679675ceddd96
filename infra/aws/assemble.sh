#!/bin/sh
# Joins the pieces of all datasets: one importer.toml for the importers, and the list of their source stacks.
#
#   infra/aws/assemble.sh OUT [DATASETS]
#
# OUT/importer.toml   importer.toml beside this script, then each datasets/NAME/dataset.toml, in order of NAME
# OUT/stacks          a line a stack: its name, its template, and its parameters as Key=Value
# DATASETS            another directory of datasets
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: assemble.sh OUT [DATASETS]}
datasets=${2:-$here/datasets}
prefix=${NAME:-penstock}

fail() {
    echo "$1" >&2
    exit 1
}

mkdir -p "$out"
config=$out/importer.toml
stacks=$out/stacks
cat "$here/importer.toml" >"$config.new"
: >"$stacks.new"

for directory in "$datasets"/*/; do
    directory=${directory%/}
    name=${directory##*/}
    piece=$directory/dataset.toml
    source=$directory/source.conf
    [ -f "$piece" ] || fail "$directory has no dataset.toml"
    # One directory, one dataset of the same name: whoever looks for it finds it.
    [ "$(grep -c '^\[\[dataset\]\]' "$piece")" = 1 ] || fail "$piece: one [[dataset]], no more and no less"
    grep -qE "^name *= *\"$name\"" "$piece" || fail "$piece: name = \"$name\" is missing"
    {
        echo
        cat "$piece"
    } >>"$config.new"

    # A dataset may share the source of another, or be filled by pointers alone.
    [ -f "$source" ] || continue
    template=
    parameters=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '' | '#'*) ;;
        *[[:space:]]*) fail "$source: no blanks: $line" ;;
        Template=*) template=${line#Template=} ;;
        [A-Z]*=*) parameters="$parameters $line" ;;
        *) fail "$source: not Key=Value: $line" ;;
        esac
    done <"$source"
    [ -n "$template" ] || fail "$source: Template= is missing"
    # A template beside the dataset comes before those beside this script.
    if [ -f "$directory/$template" ]; then
        template=$directory/$template
    elif [ -f "$here/$template" ]; then
        template=$here/$template
    else
        fail "$source: there is no $template"
    fi
    echo "$prefix-source-$name $template Name=$prefix Dataset=$name$parameters" >>"$stacks.new"
done

mv "$config.new" "$config"
mv "$stacks.new" "$stacks"
echo "$config: $(grep -c '^\[\[dataset\]\]' "$config") datasets"
echo "$stacks: $(wc -l <"$stacks" | tr -d ' ') stacks"
