#!/usr/bin/env bash
# Installs the clang++ with which kernels/shim compiles the Metal kernels, unless there is one: Debian's package, by apt, which asks
# for a password where it is not run as root. On other systems install it by hand, of version 16 or later.
set -euo pipefail
for version in 20 19 18 17 16; do
    command -v "clang++-$version" > /dev/null && exit
done
apt() { if [ "$(id -u)" = 0 ]; then apt-get -q "$@"; else sudo apt-get -q "$@"; fi; }
apt update
apt install -y --no-install-recommends clang-19
