# Installs the packages named as arguments, as root, and starts none of the services they bring: while apt runs,
# a policy-rc.d forbids every start (invoke-rc.d(8)); afterwards the machine's own, if it had one, is back.
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

# Another apt may be at work on a machine that has just started: wait for it.
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
