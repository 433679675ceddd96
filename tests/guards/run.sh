#!/bin/sh
# Switches guards off, one at a time, and demands that each is missed by a test.
#
#   tests/guards/run.sh             all guards of list.txt
#   tests/guards/run.sh fence …     these
#
# It works on a scratch copy with a target directory of its own, so nothing here changes. The copy needs
# as much room as target/debug and goes away at the end, unless GUARDS_SCRATCH names a directory to keep
# it in; then the next run builds less. Needs cargo-nextest.
set -eu

guards_directory=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$guards_directory/../.." && pwd)
list=$guards_directory/list.txt
known=$(grep -v '^#' "$list" | cut -d ' ' -f 1 | uniq)
chosen=${*:-$known}

for guard in $chosen; do
    if [ ! -f "$guards_directory/$guard.patch" ]; then
        echo "there is no guard $guard; there are: $(echo $known)" >&2
        exit 2
    fi
done

if [ -n "${GUARDS_SCRATCH:-}" ]; then
    scratch=$GUARDS_SCRATCH
    mkdir -p "$scratch"
else
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' INT TERM
fi

# What git knows or would add; times are kept, so that cargo builds only what is new.
(cd "$repository" && git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -cf -) | tar -C "$scratch" -xf -
if [ ! -d "$scratch/target/debug" ] && [ -d "$repository/target/debug" ]; then
    mkdir -p "$scratch/target"
    cp -a --reflink=auto "$repository/target/debug" "$scratch/target/debug"
fi
if [ -d "$repository/.cache" ] && [ ! -e "$scratch/.cache" ]; then
    ln -s "$repository/.cache" "$scratch/.cache"
fi
cd "$scratch"

# Prints the filter of a guard's tests.
filter() {
    grep "^$1 " "$list" | sed 's/^[^ ]* \(.*\)$/test(=\1)/' | paste -sd '|' -
}

# Runs tests; 0 when all are green, 100 when one is red, else they did not run.
run_tests() {
    cargo build --quiet --workspace --all-targets >"$scratch/build.log" 2>&1 || return 1
    # Those of other modules cannot be changed by a patch, and the stack makes them quick.
    ./target/debug/stack run -- \
        cargo nextest run --workspace --no-fail-fast --retries 0 -E "$1" >"$scratch/tests.log" 2>&1
}

missed=
for guard in $chosen; do
    git apply -C1 "$guards_directory/$guard.patch"
    status=0
    run_tests "$(filter "$guard")" || status=$?
    git apply -C1 -R "$guards_directory/$guard.patch"
    case $status in
    100)
        echo "$guard: red"
        grep -E '^ +FAIL ' "$scratch/tests.log" | sed 's/^.*) /    /' | sort -u
        ;;
    0)
        echo "$guard: GREEN, nothing misses it"
        missed="$missed $guard"
        ;;
    *)
        echo "$guard: its tests did not run (status $status)"
        tail -n 20 "$scratch/build.log" "$scratch/tests.log" 2>/dev/null || true
        missed="$missed $guard"
        ;;
    esac
done

if [ -n "$missed" ]; then
    echo "not guarded:$missed" >&2
    exit 1
fi
