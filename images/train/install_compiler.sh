#!/bin/sh
# Installs what the base image lacks for compiling an extension of Python: a C++ compiler and Python's headers.
# DEBIAN_MIRROR, where it is set, takes the place of http://deb.debian.org.
set -eu
packages=""
command -v g++ >/dev/null || packages="g++"
headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$headers/Python.h" ] || packages="$packages python3-dev"
[ -n "$packages" ] || exit 0
if [ -n "${DEBIAN_MIRROR}" ]; then
    find /etc/apt -name '*.sources' -o -name 'sources.list' -o -path '*/sources.list.d/*.list' | xargs sed -i "s|http://deb.debian.org|${DEBIAN_MIRROR}|g"
fi
apt-get update
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
[ -e "$headers/Python.h" ] || {
    echo "The base image's Python has no headers in $headers, and Debian's are not for it. Take a base image that has them." >&2
    exit 64
}
