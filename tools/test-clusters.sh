#!/bin/bash
# test-clusters.sh [CLUSTER]...: what `make test-clusters` does as root. Brings up real batch systems on this machine
# (tests/clusters/CLUSTER.sh), runs the tests of chains on them as an ordinary user, and takes them down again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- oar slurm
export CKPT_OAR_SHORTEST=1 # s, instead of the 60 that OAR has a job run before it resubmits it; see oar.sh

run=$(mktemp -d /run/ckpt-clusters.XXXXXX)
chmod 755 "$run"
warden=
end() {
    local status=$? cluster
    [ -z "$warden" ] || kill "$warden" || true
    for cluster in "${clusters[@]}"; do "tests/clusters/$cluster.sh" down || true; done
    rm -rf "$run"
    exit "$status"
}
clusters=()
trap end EXIT
for cluster in "$@"; do
    clusters+=("$cluster")
    "tests/clusters/$cluster.sh" up
done
# what only root may do to them while the tests run: from this folder and not from the user's copy of it
/usr/bin/python3 tests/clusters/warden.py "$run/orders" "$(tools/test-user.sh)" &
warden=$!

# Tests mostly wait. So both clusters are tested at once, and on each a test that needs it alone takes turns with groups
# of others beside each other (tests/clusters/conftest.py): three workers a cluster. The folders with such tests only: to
# collect all the others takes each worker longer.
export PYTEST_ADDOPTS="-n $((3 * $#)) --dist loadgroup --durations 12 tests/clusters tests/conformance"
CKPT_CLUSTERS="$*" CKPT_CLUSTER_ORDERS=$run/orders tools/test-as-user.sh test-clusters-user
