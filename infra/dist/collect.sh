#!/bin/sh
# Puts what is handed out into one directory: the three programs in one, a link to it for each, their man pages and
# completion scripts.
#
#   infra/dist/collect.sh target/x86_64-unknown-linux-gnu/dist dist [NATIVE]
#
# NATIVE  where the same programs for this machine are, when those that are handed out are for another
#
# Refuses a program that needs shared libraries: it would not start on a machine with another C library.
set -eu
from=$1
to=$2
native=${3:-$to/bin}

# readelf rather than ldd, which runs what it looks at.
if readelf --dynamic --wide "$from/penstock" | grep --quiet '(NEEDED)'; then
    echo "collect: $from/penstock needs shared libraries; build it with -C target-feature=+crt-static" >&2
    exit 1
fi

mkdir -p "$to/bin" "$to/man/man1" "$to/completions"
cp "$from/penstock" "$to/bin/penstock"
for program in importer scaler console; do
    ln -sfn penstock "$to/bin/$program"
    "$native/$program" man "$to/man/man1"
    "$native/$program" completions bash > "$to/completions/$program.bash"
    "$native/$program" completions zsh > "$to/completions/_$program"
    "$native/$program" completions fish > "$to/completions/$program.fish"
    "$native/$program" --version
done
