#!/bin/sh
# fuzz/run.sh SECONDS [JOBS] [TARGET...]: runs each fuzz target for so long, so many at a time, from what earlier
# runs found and small samples of every format. No input may take 10 s, and no process 168 MiB, the importer's promise
# for its default memory_mib. Inputs are as long as it takes to reach what only length brings, and short enough to keep
# many of them within that memory. What breaks a target is left in target/fuzz/.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
jobs=${2:-1}
[ $# -ge 2 ] && shift 2 || shift $#
# Quicker to build, or quicker to run.
[ "$seconds" -lt 60 ] && optimised=0 || optimised=1
targets=${*:-archives avro compression csv describe dialect json message ndjson parquet places text}

# With the workspace named, its features are those of every other build, whose dependencies are there already.
build() {
    bins=$(for target in seeds $targets; do printf ' --bin fuzz_%s' "$target"; done)
    # shellcheck disable=SC2086
    RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc.sh cargo build --workspace --features penstock-fuzz/fuzz \
        --config "profile.dev.package.decode.opt-level=$optimised" \
        --config "profile.dev.package.importer.opt-level=$optimised" $bins
}
build
built=${CARGO_TARGET_DIR:-target}/debug
mkdir -p target/fuzz
"$built/fuzz_seeds" target/fuzz/seeds

run() {
    mkdir -p "target/fuzz/corpus/$1"
    if "$built/fuzz_$1" "target/fuzz/corpus/$1" "target/fuzz/seeds/$1" -max_total_time="$seconds" -timeout=10 \
        -max_len=200000 -rss_limit_mb=168 -artifact_prefix="target/fuzz/$1-" -print_final_stats=1 >"target/fuzz/$1.log" 2>&1; then
        echo "fuzz $1: $(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$1.log") inputs," \
            "$(sed -n 's/^stat::peak_rss_mb: *//p' "target/fuzz/$1.log") MiB"
    else
        tail -n 40 "target/fuzz/$1.log"
        echo "fuzz $1: FAILED, see target/fuzz/$1.log"
        return 1
    fi
}

failed=0
pids=
running=0
for target in $targets; do
    run "$target" &
    pids="$pids $!"
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then
        for pid in $pids; do wait "$pid" || failed=1; done
        pids=
        running=0
    fi
done
for pid in $pids; do wait "$pid" || failed=1; done
exit "$failed"
