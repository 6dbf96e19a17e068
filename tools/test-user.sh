#!/bin/bash
# test-user.sh: the name of the ordinary user that the tests run as when root runs them; made if need be. As root.
set -euo pipefail
user=ckpt-test
id "$user" >/dev/null 2>&1 || useradd --system --user-group --create-home --home-dir "/home/$user" --shell /bin/bash "$user"
echo "$user"
