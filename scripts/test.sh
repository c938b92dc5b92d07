#!/bin/sh
# Runs the tests on the best servers this machine has, and says which.
# Arguments go to go test; without any it tests everything.
set -eu

sh scripts/setup-redis.sh
redis=$(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')

if command -v java >/dev/null 2>&1 && command -v mvn >/dev/null 2>&1; then
	kafka="real Apache Kafka"
elif [ "${CI:-}" = true ]; then
	echo "CI needs real Kafka, so Java and Maven: apt-get install -y default-jre-headless maven" >&2
	exit 1
else
	kafka="the embedded broker (install Java 17 and Maven for real Apache Kafka)"
fi

race=-race
if [ "$(go env CGO_ENABLED)" != 1 ] || ! command -v "$(go env CC | cut -d ' ' -f 1)" >/dev/null 2>&1; then
	race=
	note=", no race detector (it needs cgo and a C compiler: apt-get install -y gcc libc6-dev)"
fi

echo "tests run on redis-server $redis and $kafka${note:-}"
if [ $# -eq 0 ]; then
	set -- ./...
fi
exec go test $race -shuffle=on -timeout 20m "$@"
