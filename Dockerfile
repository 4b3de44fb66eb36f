# syntax=docker/dockerfile:1
# Ginnel in a container, for linux/amd64 and linux/arm64:
#
#   docker build -t ginnel .
#   docker run -v ./relay:/etc/ginnel:ro -p 4433:4433/udp -p 4433:4433/tcp -p 127.0.0.1:8080:8080 ginnel
#
# A controller, or a relay with one, keeps its network in a volume; its config says "data": "/var/lib/ginnel/…":
#
#   docker run -v ./relay:/etc/ginnel:ro -v ginnel:/var/lib/ginnel -p 4433:4433/udp -p 4433:4433/tcp -p 8441:8441 ginnel
#
# With a tunnel, which needs one capability and one device (and no privileged container):
#
#   docker run --cap-add NET_ADMIN --device /dev/net/tun --sysctl net.ipv4.ip_forward=1 \
#     --sysctl net.ipv6.conf.all.forwarding=1 … ginnel
#
# An agent that catches services for programs in its network; as root, since it changes /etc/resolv.conf
# (config/compose.yaml has it with a program beside it):
#
#   docker run --user 0:0 --cap-drop ALL --cap-add NET_ADMIN --device /dev/net/tun -v ./agent:/etc/ginnel:ro ginnel
#
# The builder runs on the machine's own architecture and makes the file for the wanted one; only the last stage, which
# installs two packages, is emulated when that is another. Without access to Deno's download server, build with
# `--build-arg GINNEL_PACK=selfextract`: the file is then made from npm packages.
FROM --platform=$BUILDPLATFORM node:22-bookworm AS build
ARG TARGETARCH=amd64
ARG GINNEL_PACK=compile
RUN case "$(dpkg --print-architecture)" in amd64) other=aarch64 ;; *) other=x86-64 ;; esac && \
    apt-get update && \
    apt-get install -y --no-install-recommends gcc libc6-dev "gcc-$other-linux-gnu" && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY deno.json deno.lock compile.sh main.ts ./
COPY src src
RUN case "$TARGETARCH" in \
      amd64) arch=x86_64 ;; \
      arm64) arch=aarch64 ;; \
      *) echo "Ginnel is built for amd64 and arm64, not for $TARGETARCH" >&2; exit 1 ;; \
    esac && \
    GINNEL_MEASURE=no ./compile.sh "$arch" && \
    mv "dist/ginnel-linux-$arch" /ginnel

# Small, with the GNU C library that the runtime needs, and `ip` and `nft` for tunnels. The capability is only
# permitted: a container that was not given NET_ADMIN starts without it. Everything in one layer, because marking a
# file that an earlier one brought would store it twice.
FROM debian:bookworm-slim
RUN --mount=type=bind,from=build,source=/ginnel,target=/mnt/ginnel \
    apt-get update && \
    apt-get install -y --no-install-recommends iproute2 libcap2-bin nftables && \
    rm -rf /var/lib/apt/lists/* && \
    install -m 0755 /mnt/ginnel /usr/local/bin/ginnel && \
    setcap cap_net_admin+p /usr/local/bin/ginnel && \
    install -d -o 10001 -g 10001 -m 0700 /var/lib/ginnel

# Without a tunnel no capability is needed: the ports are high. The config, with the identity it names, is mounted
# at /etc/ginnel and must be readable by this user (an identity file by this user alone).
USER 10001:10001
WORKDIR /etc/ginnel
VOLUME /var/lib/ginnel
EXPOSE 4433/udp 4433/tcp 8080/tcp 8441/tcp
STOPSIGNAL SIGTERM

# Asks /health where the relay listens by default. A node that has no health port (a connector listens nowhere, an
# agent may not) is healthy as long as its process, the container's first, runs; Docker sees to that by itself.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 CMD ["/bin/bash", "-c", \
  "grep -q ':1F90 0\\{8,32\\}:0000 0A' /proc/net/tcp /proc/net/tcp6 || exit 0; exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]

ENTRYPOINT ["/usr/local/bin/ginnel"]
CMD ["run", "--config", "/etc/ginnel/config.json"]
