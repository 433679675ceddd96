# /etc/penstock has passwords of yours: it stays.
[ ! -d /run/systemd/system ] || systemctl daemon-reload
