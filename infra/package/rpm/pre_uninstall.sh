[ "$1" = 0 ] && [ -d /run/systemd/system ] || exit 0
systemctl disable --now penstock-scaler.service penstock-importer.service penstock-console.service
