#!/bin/bash
# test-as-user.sh [TARGET]: what `make test` does as root. The suite (make's TARGET, else all tests) runs as an ordinary
# user on a copy of this folder, because saving without root is what is tested; after all tests root runs its own.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-test-user}

user=$(tools/test-user.sh)
home=$(getent passwd "$user" | cut -d : -f 6)
copy=$home/checkout

# one at a time: two clones share the copy (closed for the tests below, so that nothing they leave running holds it)
exec 9<"$home"
flock --nonblock 9 || { echo "waiting for another \`make test\` of this machine" && flock 9; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"

# --- a fresh copy of what git knows or would add; only what is slow to make again survives -------------------------
# (safe.directory: the clone may belong to another user than root)
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi # deleted, but not yet for git
    done >"$scratch/files"
install -d -o "$user" -g "$user" -m 755 "$copy"
find "$copy" -mindepth 1 -maxdepth 1 ! -name .venv ! -name .mypy_cache -exec rm -rf {} +
tar --create --no-recursion --null --files-from="$scratch/files" |
    runuser -u "$user" -- tar --extract --no-same-owner --directory="$copy"

# --- root's environment goes along (CI, PIP_*, CKPT_*, proxies ...), less what points into root's home ---------------
environment=(env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u TMPDIR -u XDG_RUNTIME_DIR -u XDG_CONFIG_HOME
    -u XDG_CACHE_HOME -u XDG_DATA_HOME -u XDG_STATE_HOME -u PIP_CACHE_DIR -u VIRTUAL_ENV -u PYTHONPATH -u PYTHONHOME
    "HOME=$home" "USER=$user" "LOGNAME=$user" "SHELL=/bin/bash"
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
# pip's settings in root's home: a copy that the user can read while this runs
for file in "${PIP_CONFIG_FILE:-}" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "$HOME/.pip/pip.conf"; do
    if [ -f "$file" ]; then
        install -o "$user" -g "$user" -m 400 "$file" "$scratch/pip.conf"
        environment+=("PIP_CONFIG_FILE=$scratch/pip.conf")
        break
    fi
done

echo "tests as user $user in $copy"
cd "$copy"
runuser -u "$user" -- "${environment[@]}" make --no-print-directory "$target" 9<&-
[ "$target" = test-user ] || exit 0

echo "tests that need root"
make --no-print-directory test-root 9<&-
