# The tongxing program with its console. The embedded engine is not in it: name a ClickHouse server, or mount the library.
FROM node:20.19-bookworm-slim AS console
WORKDIR /build/dashboards/console
COPY dashboards/console/package.json dashboards/console/package-lock.json ./
RUN npm install --no-save --no-audit --no-fund
COPY dashboards/console ./
RUN npm run build

FROM rust:1.95-bookworm AS program
WORKDIR /build
COPY . .
COPY --from=console /build/dashboards/console/dist dashboards/console/dist
RUN cargo build --release --locked --package launcher

FROM debian:12.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libssl3 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --create-home --home-dir /var/lib/tongxing tongxing
COPY --from=program /build/target/release/tongxing /usr/local/bin/tongxing
# A new volume takes its owner from the folder that it is mounted on.
RUN install --directory --owner=tongxing --mode=0700 /var/lib/tongxing/data /var/lib/tongxing/node
USER tongxing
WORKDIR /var/lib/tongxing
ENV TONGXING_DATA=/var/lib/tongxing/data
VOLUME /var/lib/tongxing/data
EXPOSE 8080 8081 8082
ENTRYPOINT ["tongxing"]
CMD ["up"]
