#!/bin/sh
# Puts what is handed out into one directory: the programs, their man pages and completion scripts.
#
#   infra/dist/collect.sh target/x86_64-unknown-linux-gnu/dist dist
#
# Refuses programs that need shared libraries: they would not start on a machine with another C library.
set -eu
from=$1
to=$2

for program in importer scaler console; do
    # readelf rather than ldd, which runs what it looks at.
    if readelf --dynamic --wide "$from/$program" | grep --quiet '(NEEDED)'; then
        echo "collect: $from/$program needs shared libraries; build it with -C target-feature=+crt-static" >&2
        exit 1
    fi
done

mkdir -p "$to/bin" "$to/man/man1" "$to/completions"
for program in importer scaler console; do
    cp "$from/$program" "$to/bin/$program"
    "$to/bin/$program" man "$to/man/man1"
    "$to/bin/$program" completions bash > "$to/completions/$program.bash"
    "$to/bin/$program" completions zsh > "$to/completions/_$program"
    "$to/bin/$program" completions fish > "$to/completions/$program.fish"
done
"$to/bin/importer" --version
"$to/bin/scaler" --version
"$to/bin/console" --version
