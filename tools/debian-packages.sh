#!/bin/bash
# debian-packages.sh PACKAGE...: make sure that these Debian packages are there.
# Root installs the missing ones; anybody else is told what an administrator must run.
set -euo pipefail

command -v dpkg-query >/dev/null || {
    echo "debian-packages: not a Debian system, so not checked; needed here: $*" >&2
    exit 0
}

missing=()
for package in "$@"; do
    # shellcheck disable=SC2016  # the ${...} is dpkg-query's own
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Debian packages are missing. An administrator must run:" >&2
    echo "    apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
# apt's own progress (hundreds of lines) is shown only when it failed
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
