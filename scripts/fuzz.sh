#!/bin/sh
# Runs every fuzz target for a while ($1).
set -eu

fuzztime=$1
for package in $(go list ./...); do
	listed=$(go test -list '^Fuzz' "$package") # its last line tells of the package
	for target in $(echo "$listed" | sed -n '/^Fuzz/p'); do
		echo "== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -fuzzminimizetime 20x "$package"
	done
done
