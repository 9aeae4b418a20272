# Build: the toolchain, the dependencies in a layer of their own, then the source.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# Nothing here changes with the source, so that the dependencies are compiled again only when they change themselves.
# Tests and benches that Cargo.toml names must be there, be it empty, or it is not read at all.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && sed -nE '/^\[\[(test|bench)\]\]/{n;s/^name = "(.*)"/\1/p}' Cargo.toml | while read -r name; do \
      mkdir -p "tests/$name" "benches/$name" && touch "tests/$name/main.rs" "benches/$name/main.rs"; done \
 && cargo build --release --locked

# Which commit `--version` and the log name: docker build --build-arg CONNECTOR_COMMIT="$(git rev-parse --short=12 HEAD)"
ARG CONNECTOR_COMMIT=unknown
COPY config config
COPY demo demo
COPY migrations migrations
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# The final image's whole file system: the binary, the shared libraries it is linked with, root certificates, a user.
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/tmp \
 && cp target/release/identity-connector /rootfs/ \
 && ldd target/release/identity-connector | grep -o '/[^ )]*' | xargs cp --parents --dereference --target-directory=/rootfs \
 && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
 && echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' > /rootfs/etc/passwd \
 && echo 'nonroot:x:65532:' > /rootfs/etc/group \
 && mkdir /data

# Nothing else: no shell, no package manager, nothing to update but the above.
FROM scratch
COPY --from=build /rootfs /
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532

# The database, sqlite://data/connector.db by default, which is under / here: to be kept, so to be mounted. With a read-only
# root it is the only place that is written; with PostgreSQL, nothing is.
WORKDIR /
VOLUME /data

# Reachable from outside the container, so it starts only with callers (CONNECTOR__SERVER__CALLERS__…), or when somebody says that a
# proxy in front authenticates them: CONNECTOR__SERVER__ALLOW_UNAUTHENTICATED=true.
ENV CONNECTOR__SERVER__BIND=0.0.0.0:8080
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/identity-connector", "healthcheck"]
# The binary is process 1 itself: SIGTERM reaches it, and it drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/identity-connector"]
CMD ["serve"]
