# The user the units run as.
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers penstock.conf
else
    getent passwd penstock >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin penstock
fi
mkdir -p /etc/penstock
# Nothing is started, nor started anew: the schema's migrations come first, and are the owner's (docs/guides/operating.md).
[ ! -d /run/systemd/system ] || systemctl daemon-reload
