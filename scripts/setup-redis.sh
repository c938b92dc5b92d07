#!/bin/sh
# Makes sure that redis-server is there for tests and the demo. Where it may
# (root or passwordless sudo, with apt-get) it installs the package, without
# starting its system service; elsewhere it prints the command.
set -eu

if command -v redis-server >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "redis-server is missing: install it with this system's package manager (the package is redis or redis-server)" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! sudo -n true 2>/dev/null; then
		echo "redis-server is missing: run  sudo apt-get install -y redis-server  and try again" >&2
		exit 1
	fi
	sudo="sudo -n"
fi

echo "redis-server is missing: installing the package, its system service stays off"
policy=/usr/sbin/policy-rc.d # Debian's way to keep packages from starting services
if [ ! -e "$policy" ]; then
	trap '$sudo rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install() {
	$sudo apt-get install -y -q --no-install-recommends redis-server >/dev/null
}
if ! install 2>/dev/null && ! { $sudo apt-get update -q >/dev/null && install; }; then
	echo "apt-get could not install redis-server: run  apt-get update && apt-get install -y redis-server  and see why" >&2
	exit 1
fi
if command -v systemctl >/dev/null 2>&1; then
	$sudo systemctl --quiet disable redis-server >/dev/null 2>&1 || true # none in a container
fi
redis-server --version
