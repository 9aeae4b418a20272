# Build: the toolchain, the dependencies in a layer of their own, then the source.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# This layer changes only when the dependencies change, so that an edit of the source does not compile them again.
# Cargo reads Cargo.toml only if every test and bench that it names exists; empty files are enough.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && sed -nE '/^\[\[(test|bench)\]\]/{n;s/^name = "(.*)"/\1/p}' Cargo.toml | while read -r name; do \
      mkdir -p "tests/$name" "benches/$name" && touch "tests/$name/main.rs" "benches/$name/main.rs"; done \
 && cargo build --release --locked

# The commit that `--version`, the log and the image's label show:
# docker build --build-arg CONNECTOR_COMMIT="$(git rev-parse --short=12 HEAD)"
ARG CONNECTOR_COMMIT=unknown
COPY config config
COPY demo demo
COPY migrations migrations
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# The final image's file system: the binary, the shared libraries it is linked with, root certificates, a user, and the
# licences of all of these.
COPY LICENSE ./
COPY deploy/image deploy/image
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/tmp /rootfs/licenses /data \
 && cp target/release/identity-connector /rootfs/ \
 && ldd target/release/identity-connector | grep -o '/[^ )]*' > /tmp/libraries \
 && xargs cp --parents --dereference --target-directory=/rootfs < /tmp/libraries \
 && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
 && echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' > /rootfs/etc/passwd \
 && echo 'nonroot:x:65532:' > /rootfs/etc/group \
 && cp LICENSE /rootfs/licenses/ \
 && deploy/image/third-party.sh /rootfs/licenses $(cat /tmp/libraries) /usr/share/doc/ca-certificates/copyright

# The final image has no shell and no package manager. Only the files above need updates.
FROM scratch
COPY --from=build /rootfs /
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532

# The database is sqlite://data/connector.db by default, which is /data/connector.db here. Mount a volume to keep it.
# The root file system may be read-only: the connector writes to /data only, and with PostgreSQL to no file at all.
WORKDIR /
VOLUME /data

# Where `serve` listens if neither the configuration file nor CONNECTOR__SERVER__BIND sets server.bind. It is reachable
# from outside the container, so `serve` starts only with callers (CONNECTOR__SERVER__CALLERS__…), or with
# CONNECTOR__SERVER__ALLOW_UNAUTHENTICATED=true behind a proxy that authenticates them. `demo` ignores it:
# see `demo --publish`.
ENV CONNECTOR_DEFAULT_BIND=0.0.0.0:8080

# The ports that the documentation uses: the API, the shopper endpoints (commerce.bind), the API with TLS, and
# management. The last one is for metrics and administration: never publish it to the outside.
EXPOSE 8080 8085 8443 9090

HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/identity-connector", "healthcheck"]
# The binary is process 1, so it receives SIGTERM and shuts down gracefully.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/identity-connector"]
CMD ["serve"]

# version is package.version of Cargo.toml: .ci/checks/version.sh compares the two. A build that is published adds
# --label org.opencontainers.image.source=URL, the address of the repository that it was built from.
ARG CONNECTOR_COMMIT=unknown
LABEL org.opencontainers.image.title="identity-connector" \
      org.opencontainers.image.description="The retailer's Identity Connector for Just Walk Out gates" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="$CONNECTOR_COMMIT" \
      org.opencontainers.image.licenses="Apache-2.0"
