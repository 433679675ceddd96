#!/bin/sh
# The emulated AWS, wired each time it is started. It is healthy once the file `wired` is there.
set -eu
wired=${TMPDIR:-/tmp}/wired
rm -f "$wired"
ministack &
emulator=$!
trap 'kill "$emulator"' INT TERM
AWS_ENDPOINT_URL="http://127.0.0.1:$GATEWAY_PORT" python "$(dirname "$0")/wire.py"
touch "$wired"
# A signal ends the first wait; the emulator then writes down what it has.
wait "$emulator" || wait "$emulator"
