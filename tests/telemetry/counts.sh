#!/bin/sh
# Counts the instructions that decoding a row takes, and compares them with counts.txt; UPDATE=1 renews that.
#
# Only those of the program: what the C library's copying takes depends on the processor. With wide instructions, which
# are chosen as it runs, the figures are of x86-64 with AVX2 (valgrind has nothing wider), and of one compiler.
set -eu
cd "$(dirname "$0")/../.."
figures=tests/telemetry/counts.txt
rows=50000
percent=3

machine=$(uname -m)
if [ "$machine" != x86_64 ] || ! grep -qw avx2 /proc/cpuinfo; then
    echo "counts: skipped, for $figures is of x86-64 with AVX2, and this is $machine without"
    exit 0
fi
if ! command -v valgrind >/dev/null; then
    echo 'counts: valgrind is missing, a package of that name; or let infra/local/prepare.sh test install it' >&2
    exit 1
fi

# As it is released: clippy compiles as well, but leaves out optimisations.
unset RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS RUSTFLAGS
cargo build --quiet --release --locked -p telemetry --example counts
program=${CARGO_TARGET_DIR:-target}/release/examples/counts
compiler=$(rustc -V | cut -d' ' -f1-2)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
"$program" write "$scratch" "$rows"

{
    echo "$compiler"
    for format in parquet ndjson.gz csv.gz; do
        valgrind --tool=callgrind --compress-strings=no --compress-pos=no \
            --callgrind-out-file="$scratch/counted" "$program" "$scratch/rows.$format" >"$scratch/said" 2>&1 ||
            { cat "$scratch/said" >&2; exit 1; }
        # A line's last number is what it took; the one after "calls=" is of what it called.
        awk -v rows="$rows" -v format="$format" '
            /^ob=/ { is_ours = /\/counts$/ }
            /^calls=/ { getline; next }
            /^[0-9+*-]/ && is_ours { total += $NF }
            END { printf "%s %d\n", format, total / rows }
        ' "$scratch/counted"
    done
} >"$scratch/counts"

if [ "${UPDATE:-}" = 1 ]; then
    cp "$scratch/counts" "$figures"
    cat "$figures"
    exit
fi

[ "$compiler" = "$(head -1 "$figures")" ] || echo "counts: $figures is of $(head -1 "$figures"), this is $compiler"
awk -v percent="$percent" '
    FNR == 1 { next }
    NR == FNR { expected[$1] = $2; next }
    {
        change = ($2 / expected[$1] - 1) * 100
        printf "counts: %s takes %d instructions a row, %d before: %+.1f %%\n", $1, $2, expected[$1], change
        if (change > percent || change < -percent) failed = 1
    }
    END { exit failed }
' "$figures" "$scratch/counts" && exit
echo "counts: more than $percent % apart; if that is meant, UPDATE=1 $0 renews $figures" >&2
exit 1
