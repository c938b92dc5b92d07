# syntax=docker/dockerfile:1

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/twinlog ./cmd/twinlog \
	&& mkdir /out/data

# No shell, no package manager, uid 65532; CA certificates for TLS.
FROM gcr.io/distroless/static-debian13:nonroot
LABEL org.opencontainers.image.title="twinlog" \
	org.opencontainers.image.description="Keeps two Redis in step, in both directions, through Kafka" \
	org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/twinlog /usr/bin/twinlog
COPY --from=build --chown=65532:65532 /out/data /var/lib/twinlog
WORKDIR /var/lib/twinlog
EXPOSE 8083
ENTRYPOINT ["/usr/bin/twinlog"]
CMD ["run", "-c", "/etc/twinlog/twinlog.yml"]
