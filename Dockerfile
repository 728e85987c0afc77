# The image of agimo. It contains one static binary and nothing else.
#
#   docker build --tag agimo:0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
#
# From an existing binary, without network access (buildah or docker):
#
#   buildah build --target prebuilt --tag agimo:0.1.0 --file Dockerfile target/x86_64-unknown-linux-gnu/dist
#
# The stage `prebuilt` precedes the stage `builder`, so that a tool that builds all stages up to the target does not
# pull the Rust image.

# The image without the binary.
FROM scratch AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="agimo" \
      org.opencontainers.image.description="HTTP proxy that scales workloads to zero and wakes them on the first request" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A numeric user ID: Kubernetes cannot verify `runAsNonRoot` for a user name.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/agimo"]

FROM image AS prebuilt
COPY --chmod=0755 agimo /agimo

# RUSTUP_TOOLCHAIN selects the toolchain of the image; otherwise rustup downloads the one of rust-toolchain.toml.
FROM docker.io/library/rust:1.95-slim AS builder
ARG REVISION=unknown
WORKDIR /agimo
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    export RUSTUP_TOOLCHAIN="$RUST_VERSION" && \
    AGIMO_COMMIT="$REVISION" cargo build --profile dist --locked --package agimo --bin agimo && \
    cp "target/$(rustc --print host-tuple)/dist/agimo" /agimo.static && \
    /agimo.static version

FROM image
COPY --from=builder /agimo.static /agimo
