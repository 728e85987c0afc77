# Installs the packages named as arguments, as root, without starting their services: while apt runs, a policy-rc.d
# forbids every start (invoke-rc.d(8)). Afterwards the previous policy-rc.d, if any, is restored.
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d

restore() {
    rm -f "$policy"
    if [ -e "$policy.before-agimo" ]; then mv "$policy.before-agimo" "$policy"; fi
}
trap restore EXIT
trap 'exit 130' INT TERM

if [ -e "$policy" ]; then mv "$policy" "$policy.before-agimo"; fi
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

# On a machine that has just booted, another apt may hold the lock: wait for it.
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
