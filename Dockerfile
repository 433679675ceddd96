# Both programs in one small image: docker build -t penstock .
# Builds for amd64 and arm64: docker buildx build --platform linux/amd64,linux/arm64 .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY importer ./importer
COPY scaler ./scaler
COPY tests ./tests
COPY migrations ./migrations
RUN cargo build --release --locked --bin importer --bin scaler

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home penstock
COPY --from=build /src/target/release/importer /src/target/release/scaler /usr/local/bin/
USER penstock
WORKDIR /etc/penstock
CMD ["importer", "run"]
