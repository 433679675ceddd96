#!/bin/sh
# The compiler of the workspace's own crates for fuzzing: the importer and its decoders count which of their edges are taken
# (clang's SanitizerCoverage, which libFuzzer reads). All else is as ever, and shared.
set -eu
rustc=$1
shift
case " $* " in
*" --crate-name decode "* | *" --crate-name importer "*)
    exec "$rustc" "$@" -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
