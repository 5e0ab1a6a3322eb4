#!/usr/bin/env bash
# Installs the Chromium in which check_report.py and check_page.py open pages, unless there is one: Debian's package, by apt, which
# asks for a password where it is not run as root. On other systems install it by hand, so that `chromium` starts it.
set -euo pipefail
command -v chromium > /dev/null && exit
apt() { if [ "$(id -u)" = 0 ]; then apt-get -q "$@"; else sudo apt-get -q "$@"; fi; }
apt update
apt install -y --no-install-recommends chromium
