#!/bin/sh
# Runs golangci-lint with a command ($2: run, fmt): the installed one if its
# version is the pinned one ($1), else that version, built once into the Go tool
# directory.
set -eu

version=$1
command=$2
bin=$(go env GOPATH)/bin/golangci-lint
for tool in golangci-lint "$bin"; do
	if command -v "$tool" >/dev/null 2>&1 && [ "v$("$tool" version --short 2>/dev/null | sed 's/^v//')" = "$version" ]; then
		exec "$tool" "$command" ./...
	fi
done
echo "building golangci-lint $version, once"
GOFLAGS= CGO_ENABLED=0 go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
exec "$bin" "$command" ./...
