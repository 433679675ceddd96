# The programs, linked into one, in one small image: docker build -t penstock --build-arg PENSTOCK_COMMIT="$(git rev-parse --short HEAD)" .
# Builds for amd64 and arm64 on either, with a compiler for the other and nothing emulated:
# docker buildx build --platform linux/amd64,linux/arm64 .
FROM --platform=$BUILDPLATFORM rust:1.95-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
RUN case "$TARGETARCH" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) exit 1 ;; esac \
    && echo "$machine-unknown-linux-gnu" >/target \
    && other=$([ "$BUILDARCH" = "$TARGETARCH" ] || echo "gcc-$(echo $machine | tr _ -)-linux-gnu libc6-dev-$TARGETARCH-cross") \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev $other \
    && rm -rf /var/lib/apt/lists/* \
    && if [ -n "$other" ]; then rustup target add "$(cat /target)"; fi
# Each is what gcc itself is called on that machine.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY console ./console
COPY decode ./decode
COPY fuzz ./fuzz
COPY importer ./importer
COPY penstock ./penstock
COPY scaler ./scaler
COPY service ./service
COPY tests ./tests
COPY migrations ./migrations
# What --version says; there is no git here.
ARG PENSTOCK_COMMIT
# `--build-arg PROFILE=dev` builds in a fraction of the time what is slower and several times as large.
ARG PROFILE=dist
# As `make dist` does it: static, so that the image needs no C library. The builder keeps what was compiled, and a change
# costs its own crates only; cargo goes by times, so our files are made newer than what another checkout left there.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
    cargo build --profile "$PROFILE" --locked --target "$(cat /target)" --target-dir "target/$PROFILE" --bin penstock \
    && mkdir /out && cp "target/$PROFILE/$(cat /target)"/*/penstock /out/ \
    && for program in importer scaler console; do ln -s penstock "/out/$program"; done

# A shell of one megabyte: the scaler's process pool sends its signals by it, and an operator may look around.
FROM busybox:1.37-musl
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /usr/local/bin/
USER 10001:10001
WORKDIR /etc/penstock
CMD ["importer", "run"]
