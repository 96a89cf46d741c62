# The image of slash32-agent: the static agent, the plugins that it installs, and the programs that it runs (nft, iptables).
#
#   docker build --tag slash32/slash32-agent:0.1.0 .
#       compiles in the image's own builder; with buildx also --platform linux/amd64,linux/arm64
#   docker build --tag slash32/slash32-agent:0.1.0 --target prebuilt --file Dockerfile FOLDER
#       takes slash32, slash32-ipam and slash32-agent from FOLDER ('make image' does that with what 'make build' made)

FROM debian:bookworm-slim AS base
# Left alone where a base of one's own brings them already.
RUN command -v nft && command -v iptables-restore || { \
      apt-get update && \
      apt-get install --yes --no-install-recommends nftables iptables && \
      rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    }
LABEL org.opencontainers.image.title="slash32-agent" \
      org.opencontainers.image.description="Slash32: routed pod networking for Kubernetes; node agent and CNI plugins" \
      org.opencontainers.image.source="https://github.com/slash32/slash32" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
ENTRYPOINT ["/usr/local/bin/slash32-agent"]
CMD ["run"]

FROM base AS prebuilt
COPY slash32-agent /usr/local/bin/
COPY slash32 slash32-ipam /opt/slash32/bin/

# Runs on the builder's own architecture and compiles for the target's.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG TARGETARCH=amd64
# ring has some C in it; Rust brings musl itself, and rust-lld links for every architecture.
RUN apt-get update && apt-get install --yes --no-install-recommends clang && rm -rf /var/lib/apt/lists/*
# What rust-toolchain.toml asks for beyond the compiler is for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN scripts/build-binaries.sh "$TARGETARCH" /out

FROM base
COPY --from=build /out/slash32-agent /usr/local/bin/
COPY --from=build /out/slash32 /out/slash32-ipam /opt/slash32/bin/
