# The image of agimo: one static binary and nothing else.
#
#   docker build --tag agimo:0.1.0 .
#
# From a binary that is there already, without network and in a second (buildah or docker):
#
#   buildah build --target prebuilt --tag agimo:0.1.0 --file Dockerfile target/x86_64-unknown-linux-gnu/release
#
# `prebuilt` stands before the builder, so that a tool that builds every stage in turn does not pull Rust.

# Everything but the binary.
FROM scratch AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="agimo" \
      org.opencontainers.image.description="Lets HTTP services sleep at zero replicas and wakes them on the first request" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number: Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/agimo"]

FROM image AS prebuilt
COPY --chmod=0755 agimo /agimo

# The toolchain of the image is named, or rustup would fetch the one of rust-toolchain.toml besides.
FROM docker.io/library/rust:1.95-slim AS builder
WORKDIR /agimo
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    export RUSTUP_TOOLCHAIN="$RUST_VERSION" && \
    cargo build --release --locked --package agimo --bin agimo && \
    cp "target/$(rustc --print host-tuple)/release/agimo" /agimo.static && \
    /agimo.static version

FROM image
COPY --from=builder /agimo.static /agimo
