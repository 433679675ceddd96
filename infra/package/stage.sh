#!/bin/sh
# Lays out what packages hold, from what `make dist` made, and builds a .deb and an .rpm of it.
#
#   infra/package/stage.sh DIST OUT [TARGET]
#
# DIST    what `make dist` left: one static program, man pages, completions
# OUT     gets the packages
# TARGET  what the program was built for; this machine's when left out
#
# MAINTAINER  name and address of whoever answers for the packages; git's when it is not set
#
# Needs cargo-deb and cargo-generate-rpm. What lies where stands in penstock/Cargo.toml.
set -eu
cd "$(dirname "$0")/../.."
dist=$1
out=$2
target=${3:-$(rustc -vV | sed -n 's/^host: //p')}

stage=target/package
rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/units" "$stage/man" "$stage/completions/bash" "$stage/completions/zsh" "$stage/completions/fish" "$out"
cp "$dist/bin/penstock" "$stage/penstock"
for program in importer scaler console; do
    # Not links, which not every kind of package can hold.
    printf '#!/bin/sh\nexec /usr/bin/penstock %s "$@"\n' "$program" >"$stage/bin/$program"
    sed 's|/usr/local/bin/|/usr/bin/|' "infra/systemd/penstock-$program.service" >"$stage/units/penstock-$program.service"
    cp "$dist/completions/$program.bash" "$stage/completions/bash/$program"
    cp "$dist/completions/_$program" "$stage/completions/zsh/"
    cp "$dist/completions/$program.fish" "$stage/completions/fish/"
done
for page in "$dist"/man/man1/*.1; do
    gzip --best --no-name --stdout "$page" >"$stage/man/${page##*/}.gz"
done

# Debian's own kind of changelog, which names the package's maker; what is new in the program stands in CHANGELOG.md.
maintainer=${MAINTAINER:-$(git var GIT_COMMITTER_IDENT | sed 's/>.*/>/')}
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
changed=$(date --utc --rfc-email ${SOURCE_DATE_EPOCH:+"--date=@$SOURCE_DATE_EPOCH"})
printf '%s\n' "penstock ($version-1) unstable; urgency=medium" '' \
    '  * What is new stands in /usr/share/doc/penstock/CHANGELOG.md.' '' " -- $maintainer  $changed" >"$stage/changelog"

cargo deb --package penstock --no-build --no-strip --target "$target" --maintainer "$maintainer" --output "$out/"
cargo generate-rpm --package penstock --target "$target" --output "$out/"
